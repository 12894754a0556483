"""Filters, tried by making the calls."""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import signal
import socket
from collections.abc import Callable

import pytest

from podium.errors import BadInput
from podium.linux import caps, seccomp, syscalls


def _under(bpf: bytes, action: Callable[[], object]) -> int:
    """How a child that does `action` under the filter ends: 0, or its OSError's errno, or minus its signal."""
    pid = os.fork()
    if pid == 0:
        code = 199
        try:
            caps.set_no_new_privileges()
            seccomp.install(bpf)
            action()
            code = 0
        except OSError as e:
            code = e.errno or 198
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def _mkdir() -> None:
    os.mkdir("/proc/no")


def test_a_removed_call_returns_the_error() -> None:
    assert _under(b"", _mkdir) == errno.ENOENT
    assert _under(seccomp.build_filter("remove", ["mkdir"]), _mkdir) == errno.EPERM
    assert _under(seccomp.build_filter("remove", ["mkdir"], "ENOTSUP"), _mkdir) == errno.ENOTSUP
    assert _under(seccomp.build_filter("remove", ["mkdir"]), lambda: os.stat("/")) == 0


def test_without_an_error_it_ends_with_sigsys() -> None:
    assert _under(seccomp.build_filter("remove", ["mkdir"], ""), _mkdir) == -signal.SIGSYS


def test_a_retain_set_allows_only_its_calls() -> None:
    bpf = seccomp.build_filter("retain", ["@docker/default-whitelist"])
    assert _under(bpf, lambda: os.execv("/bin/busybox", ["busybox", "true"])) == 0
    assert _under(bpf, lambda: syscalls.unshare(0x20000)) == errno.EPERM
    narrow = seccomp.build_filter("retain", ["@systemd/default-whitelist", "write"], "ENOSYS")
    assert _under(narrow, _mkdir) == errno.ENOSYS


def test_a_whitelist_makes_no_namespaces_by_clone() -> None:
    def clone(flags: int) -> None:
        result = syscalls.LIBC.syscall(56, flags | signal.SIGCHLD, 0, 0, 0, 0)
        if result == 0:
            os._exit(0)
        syscalls.check(result, "clone")

    if platform.machine() != "x86_64":
        pytest.skip("the number is x86_64's")
    bpf = seccomp.build_filter("retain", ["@rkt/default-whitelist"])
    assert _under(bpf, lambda: clone(0)) == 0
    assert _under(bpf, lambda: clone(0x10000000)) == errno.EPERM
    assert _under(bpf, lambda: syscalls.check(syscalls.LIBC.syscall(435, None, 0), "clone3")) == errno.ENOSYS
    bpf = seccomp.build_filter("retain", ["@rkt/default-whitelist", "clone"])
    assert _under(bpf, lambda: clone(0x04000000)) == 0


def test_other_architectures_are_no_way_around() -> None:
    if platform.machine() != "x86_64":
        pytest.skip("x32 and i386 are x86_64's")

    def x32() -> None:
        syscalls.check(syscalls.LIBC.syscall(0x40000000 | 83, b"/proc/no", 0o700), "mkdir")

    assert _under(seccomp.build_filter("remove", ["mkdir"], "EXDEV"), x32) == errno.EXDEV
    assert _under(seccomp.build_filter("remove", ["mkdir"], ""), x32) == -signal.SIGSYS

    def i386() -> None:
        import mmap

        # mov eax, 39 (mkdir); xor ebx, ebx; int 0x80; ret
        code = b"\x53\xb8\x27\x00\x00\x00\x31\xdb\xcd\x80\x5b\xc3"
        memory = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
        memory.write(code)
        address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
        result = ctypes.CFUNCTYPE(ctypes.c_int)(address)()
        raise OSError(-result, "i386")

    without = _under(b"", i386)
    if without == errno.EFAULT:
        assert _under(seccomp.build_filter("remove", ["mkdir"], "EXDEV"), i386) == errno.EXDEV


def test_all_and_nothing() -> None:
    assert seccomp.build_filter("retain", ["@appc.io/all"]) == b""
    assert seccomp.build_filter("remove", ["@appc.io/empty"]) == b""
    assert seccomp.build_filter("remove", ["mkdir", "@appc.io/empty"]) == b""
    for mode, name in (("retain", "@appc.io/empty"), ("remove", "@appc.io/all")):
        with pytest.raises(BadInput, match="no system call at all"):
            seccomp.build_filter(mode, [name])


@pytest.mark.parametrize("name", ["mkdirr", "@rkt/none", "", "@"])
def test_what_is_unknown_is_named(name: str) -> None:
    with pytest.raises(BadInput, match=repr(name)):
        seccomp.build_filter("remove", [name])
    with pytest.raises(BadInput, match="ENONSENSE"):
        seccomp.build_filter("remove", ["mkdir"], "ENONSENSE")


def test_every_set_builds() -> None:
    from podium.linux.seccomp_sets import SETS

    assert len(SETS) == 12
    for name in SETS:
        assert len(seccomp.build_filter("remove", [f"@{name}"])) % 8 == 0
    assert not SETS["docker/default-whitelist"] & SETS["docker/default-blacklist"]


def test_a_socket_is_refused_as_rkt_documents_it() -> None:
    bpf = seccomp.build_filter("remove", ["@rkt/default-blacklist", "socket"], "ENOTSUP")
    assert _under(bpf, lambda: socket.socket()) == errno.ENOTSUP
