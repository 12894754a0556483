"""System call filters from appc's isolators: built by libseccomp, installed by whoever becomes the app.

A filter is for the machine's own architecture and those that its kernel runs beside it (x86_64: i386 and x32; aarch64:
arm); a call made by any other ends the process, so none is a way around the filter. See seccomp(2), ace.md of appc.
"""

from __future__ import annotations

import ctypes
import errno as errors
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

_KILL_PROCESS, _ERRNO, _ALLOW = 0x80000000, 0x00050000, 0x7FFF0000
_BADARCH, _OPTIMIZE = 2, 8
_MASKED_EQ = 7
_OTHER_ARCHITECTURES = {"x86_64": (b"x86", b"x32"), "aarch64": (b"arm",)}
_UNKNOWN = -1

# The namespaces that clone(2) must not make where a whitelist allows it, as Docker's profile has it.
_NAMESPACE_FLAGS = 0x7E020000

# Always allowed by a retain set: without these nothing can be executed, end or return from a signal.
_INDISPENSABLE = ("execve", "exit", "exit_group", "rt_sigreturn", "sigreturn", "restart_syscall")


class _Compare(ctypes.Structure):
    _fields_ = [("arg", ctypes.c_uint), ("op", ctypes.c_int), ("a", ctypes.c_uint64), ("b", ctypes.c_uint64)]


def build_filter(mode: str, names: Iterable[str], errno: str = "EPERM") -> bytes:
    """The BPF program of a seccomp isolator.

    Args:
        mode: `retain` or `remove`.
        names: system calls and sets: `@appc.io/all`, `@appc.io/empty`, `@docker/…`, `@rkt/…`, `@systemd/…`.
        errno: name of the error that a blocked call returns; empty: it ends the process with SIGSYS.

    Returns:
        The program; empty when nothing is blocked.

    Raises:
        BadInput: a system call, set or error is unknown; or nothing at all would be allowed.
        HostLacks: libseccomp is missing.
    """
    from podium.errors import BadInput

    block = _KILL_PROCESS
    if errno:
        code = getattr(errors, errno, None)
        if not isinstance(code, int):
            raise BadInput(f"{errno!r} is no error code", hint="errno(3) lists them; for example EPERM", subject=errno)
        block = _ERRNO | code
    names = tuple(names)
    if mode == "remove" and "@appc.io/empty" in names:  # masks all others
        return b""
    calls, conditional, everything = _expand(names)
    if everything and mode == "retain":
        return b""
    if everything or (mode == "retain" and not calls):
        raise BadInput("the seccomp isolator allows no system call at all", hint="nothing could run; name some")
    if not calls:
        return b""
    return _Builder(block).build(mode == "retain", calls, conditional)


def _expand(names: Iterable[str]) -> tuple[dict[str, bool], bool, bool]:
    """(call → whether it was named by itself, whether clone(2) may make no namespaces, whether all are meant)."""
    calls: dict[str, bool] = {}
    conditional, everything = False, False
    for name in names:
        if not name.startswith("@"):
            calls[name] = True
        elif name == "@appc.io/all":
            everything = True
        elif name != "@appc.io/empty":
            from podium.linux.seccomp_sets import SETS

            found = SETS.get(name[1:])
            if found is None:
                from podium.errors import BadInput

                known = ", ".join(f"@{each}" for each in ("appc.io/all", "appc.io/empty", *sorted(SETS)))
                raise BadInput(f"{name!r} is no set of system calls", hint=f"known are {known}", subject=name)
            for call in found:
                calls.setdefault(call, False)
            conditional = conditional or name.endswith("default-whitelist")
    return calls, conditional and not calls.get("clone"), everything


class _Builder:
    """One use of libseccomp."""

    def __init__(self, block: int) -> None:
        self._block = block
        try:
            self._library = library = ctypes.CDLL("libseccomp.so.2", use_errno=True)
        except OSError:
            from podium.errors import HostLacks

            raise HostLacks("libseccomp is missing", hint="install libseccomp2", subject="libseccomp") from None
        library.seccomp_init.restype = ctypes.c_void_p
        library.seccomp_init.argtypes = (ctypes.c_uint32,)
        library.seccomp_release.argtypes = (ctypes.c_void_p,)
        library.seccomp_release.restype = None
        library.seccomp_arch_resolve_name.restype = ctypes.c_uint32
        library.seccomp_arch_add.argtypes = (ctypes.c_void_p, ctypes.c_uint32)
        library.seccomp_attr_set.argtypes = (ctypes.c_void_p, ctypes.c_int, ctypes.c_uint32)
        library.seccomp_rule_add_array.argtypes = (
            *(ctypes.c_void_p, ctypes.c_uint32, ctypes.c_int, ctypes.c_uint),
            ctypes.POINTER(_Compare),
        )
        library.seccomp_export_bpf.argtypes = (ctypes.c_void_p, ctypes.c_int)

    def build(self, retain: bool, calls: dict[str, bool], conditional_clone: bool) -> bytes:
        """The program that allows only `calls`, or blocks only them."""
        library = self._library
        context = library.seccomp_init(self._block if retain else _ALLOW)
        try:
            for architecture in _OTHER_ARCHITECTURES.get(os.uname().machine, ()):
                token = library.seccomp_arch_resolve_name(architecture)
                self._check(library.seccomp_arch_add(context, token), "seccomp_arch_add")
            self._check(library.seccomp_attr_set(context, _BADARCH, _KILL_PROCESS), "seccomp_attr_set")
            library.seccomp_attr_set(context, _OPTIMIZE, 2)  # a binary tree, since libseccomp 2.5
            action = _ALLOW if retain else self._block
            for name, named in calls.items():
                number = self._number(name, named)
                if number == _UNKNOWN:
                    continue
                if name == "clone" and retain and conditional_clone:
                    compare = _Compare(0, _MASKED_EQ, _NAMESPACE_FLAGS, 0)
                    result = library.seccomp_rule_add_array(context, action, number, 1, ctypes.byref(compare))
                else:
                    result = library.seccomp_rule_add_array(context, action, number, 0, None)
                self._check(result, name)
            if retain:
                for name in _INDISPENSABLE:
                    if name not in calls:
                        library.seccomp_rule_add_array(context, _ALLOW, self._number(name, False), 0, None)
                if "clone" in calls and "clone3" not in calls:
                    # Its flags can't be looked at; told that it does not exist, C libraries take clone(2).
                    enosys = _ERRNO | errors.ENOSYS
                    if enosys != self._block:
                        library.seccomp_rule_add_array(context, enosys, self._number("clone3", False), 0, None)
            return self._export(context)
        finally:
            library.seccomp_release(context)

    def _number(self, name: str, must_be_known: bool) -> int:
        number = int(self._library.seccomp_syscall_resolve_name(name.encode("utf-8", "replace")))
        if number == _UNKNOWN and must_be_known:
            from podium.errors import BadInput

            raise BadInput(f"{name!r} is no system call", hint="syscalls(2) lists them", subject=name)
        return number

    def _export(self, context: int) -> bytes:
        fd = os.memfd_create("seccomp", os.MFD_CLOEXEC)
        try:
            self._check(self._library.seccomp_export_bpf(context, fd), "seccomp_export_bpf")
            return os.pread(fd, os.fstat(fd).st_size, 0)
        finally:
            os.close(fd)

    def _check(self, result: int, what: str) -> None:
        if result < 0:
            raise OSError(-result, f"{os.strerror(-result)} (libseccomp: {what})")


class _Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("filter", ctypes.c_char_p)]


def install(bpf: bytes) -> None:
    """Filter the calling thread's system calls, and its children's, for good; an empty program does nothing.

    Raises:
        OSError: EACCES: neither no_new_privs is set nor has the caller CAP_SYS_ADMIN.
    """
    from podium.linux import syscalls

    if bpf:
        program = _Program(len(bpf) // 8, bpf)
        call = syscalls.raw("seccomp", ctypes.c_uint, ctypes.c_uint, ctypes.c_void_p)
        syscalls.check(call(1, 0, ctypes.byref(program)), "seccomp")  # SECCOMP_SET_MODE_FILTER
