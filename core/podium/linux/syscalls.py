"""System calls that Python has no function for: one small function each, over one handle of the C library.

A call that fails raises the `OSError` of its errno, with the path it was about and the call's name in it. What the C
library may be too old to know is called by number; the numbers are those of x86_64 and aarch64.
"""

from __future__ import annotations

import ctypes
import os
import sys
from ctypes import c_char_p, c_int, c_long, c_size_t, c_uint, c_ulong, c_void_p

from podium.named import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

AT_FDCWD = -100
AT_SYMLINK_NOFOLLOW = 0x100
AT_EMPTY_PATH = 0x1000
AT_RECURSIVE = 0x8000

LIBC = ctypes.CDLL(None, use_errno=True)

# Since Linux 5.1 a new call has the same number everywhere; the older ones differ (x86_64, aarch64).
_NUMBERS = {
    "pidfd_send_signal": 424,
    "open_tree": 428,
    "move_mount": 429,
    "fsopen": 430,
    "fsconfig": 431,
    "fsmount": 432,
    "fspick": 433,
    "pidfd_open": 434,
    "clone3": 435,
    "close_range": 436,
    "openat2": 437,
    "pidfd_getfd": 438,
    "mount_setattr": 442,
}
_OLDER_NUMBERS = {
    "capget": (125, 90),
    "capset": (126, 91),
    "keyctl": (250, 219),
    "setns": (308, 268),
    "kcmp": (312, 272),
    "renameat2": (316, 276),
    "seccomp": (317, 277),
    "statx": (332, 291),
}


def number(name: str) -> int:
    """The number of system call `name` on this machine's architecture (asm/unistd_64.h, asm-generic/unistd.h).

    Raises:
        HostLacks: neither x86_64 nor aarch64.
    """
    if name in _NUMBERS:
        return _NUMBERS[name]
    machine = os.uname().machine
    if machine not in ("x86_64", "aarch64"):
        from podium.errors import HostLacks

        raise HostLacks(f"podium does not know the system calls of a {machine} processor", hint="use x86_64 or aarch64")
    return _OLDER_NUMBERS[name][machine == "aarch64"]


def check(result: int, name: str, path: str | None = None, other: str | None = None) -> int:
    """`result` of a call, or the `OSError` of its errno when it is negative, with `name` and the paths in it."""
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{os.strerror(code)} ({name})", path, None, other)
    return result


def encode(path: str | bytes) -> bytes:
    """A path as the kernel takes it; raises ValueError where C would silently end it early, at a zero byte."""
    raw = os.fsencode(path)
    if b"\0" in raw:
        raise ValueError(f"path has a zero byte: {path!r}")
    return raw


def raw(name: str, *argtypes: Any) -> Callable[..., int]:
    """System call `name` by its number, with the types of its arguments; give its result to `check`."""
    function = ctypes.CFUNCTYPE(c_long, c_long, *argtypes, use_errno=True)(("syscall", LIBC))
    known: list[int] = []

    def call(*arguments: Any) -> int:
        if not known:
            known.append(number(name))
        return function(known[0], *arguments)  # type: ignore[no-any-return]

    return call


LIBC.mount.argtypes = (c_char_p, c_char_p, c_char_p, c_ulong, c_char_p)
LIBC.umount2.argtypes = (c_char_p, c_int)
LIBC.unshare.argtypes = (c_int,)
LIBC.setns.argtypes = (c_int, c_int)
LIBC.prctl.argtypes = (c_int, c_ulong, c_ulong, c_ulong, c_ulong)

_openat2 = raw("openat2", c_int, c_char_p, c_void_p, c_size_t)
_renameat2 = raw("renameat2", c_int, c_char_p, c_int, c_char_p, c_uint)
_statx = raw("statx", c_int, c_char_p, c_int, c_uint, c_void_p)
_open_tree = raw("open_tree", c_int, c_char_p, c_uint)
_move_mount = raw("move_mount", c_int, c_char_p, c_int, c_char_p, c_uint)
_mount_setattr = raw("mount_setattr", c_int, c_char_p, c_uint, c_void_p, c_size_t)
_fsopen = raw("fsopen", c_char_p, c_uint)
_fsconfig = raw("fsconfig", c_int, c_uint, c_char_p, c_char_p, c_int)
_fsmount = raw("fsmount", c_int, c_uint, c_uint)
_pidfd_open = raw("pidfd_open", c_int, c_uint)
_close_range = raw("close_range", c_uint, c_uint, c_uint)
_pidfd_send_signal = raw("pidfd_send_signal", c_int, c_int, c_void_p, c_uint)


def mount(source: str, target: str, fstype: str | None, flags: int, data: str | None) -> None:
    """mount(2). `data` is cut off silently by the kernel at a page: `podium.linux.mount.mount` checks that."""
    result = LIBC.mount(
        encode(source),
        encode(target),
        None if fstype is None else encode(fstype),
        flags,
        None if data is None else encode(data),
    )
    check(result, "mount", target)


def umount2(target: str, flags: int = 0) -> None:
    """umount2(2)."""
    check(LIBC.umount2(encode(target), flags), "umount2", target)


def unshare(flags: int) -> None:
    """unshare(2): the calling thread's own namespaces."""
    check(LIBC.unshare(flags), "unshare")


def setns(fd: int, kinds: int = 0) -> None:
    """setns(2): enters the namespace that `fd` is, or those of `kinds` of the process that pidfd `fd` is."""
    check(LIBC.setns(fd, kinds), "setns")


def prctl(option: int, arg2: int = 0, arg3: int = 0, arg4: int = 0, arg5: int = 0) -> int:
    """prctl(2), for options whose arguments are numbers."""
    return check(LIBC.prctl(option, arg2, arg3, arg4, arg5), "prctl")


class _OpenHow(ctypes.Structure):
    _fields_ = [("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64)]


def openat2(dir_fd: int, path: str, flags: int, mode: int = 0, resolve: int = 0) -> int:
    """openat2(2), Linux 5.6: a new descriptor, close-on-exec as Python's are."""
    how = _OpenHow(flags | os.O_CLOEXEC, mode, resolve)
    return check(_openat2(dir_fd, encode(path), ctypes.byref(how), ctypes.sizeof(how)), "openat2", path)


def renameat2(old_dir_fd: int, old: str, new_dir_fd: int, new: str, flags: int) -> None:
    """renameat2(2)."""
    check(_renameat2(old_dir_fd, encode(old), new_dir_fd, encode(new), flags), "renameat2", old, new)


STATX_TYPE = 0x1
STATX_MODE = 0x2
STATX_INO = 0x100
STATX_MNT_ID = 0x1000
STATX_ATTR_MOUNT_ROOT = 0x2000


class Statx(NamedTuple):
    """What podium needs of statx(2): `mask` tells which fields the kernel filled in."""

    mask: int
    mode: int
    inode: int
    attributes: int
    attributes_mask: int
    device: tuple[int, int]
    mount_id: int


_STATX_SIZE = 256


def statx(dir_fd: int, path: str, flags: int, mask: int) -> Statx:
    """statx(2), Linux 4.11; the mount's id since 5.8 (STATX_MNT_ID in the mask that comes back)."""
    from struct import unpack_from

    buffer = ctypes.create_string_buffer(_STATX_SIZE)
    check(_statx(dir_fd, encode(path), flags, mask, buffer), "statx", path)
    got, attributes = unpack_from("=I4xQ", buffer, 0)
    (mode,) = unpack_from("=H", buffer, 28)
    (inode,) = unpack_from("=Q", buffer, 32)
    (attributes_mask,) = unpack_from("=Q", buffer, 56)
    major, minor, mount_id = unpack_from("=IIQ", buffer, 136)
    return Statx(got, mode, inode, attributes, attributes_mask, (major, minor), mount_id)


def mount_id(dir_fd: int, path: str, flags: int) -> int:
    """The id of the mount that `path` is on (statx(2)), or 0 before Linux 5.8; a mount point is on what covers it."""
    buffer = ctypes.create_string_buffer(_STATX_SIZE)
    check(_statx(dir_fd, encode(path), flags, STATX_MNT_ID, buffer), "statx", path)
    fields = buffer.raw
    if not int.from_bytes(fields[0:4], sys.byteorder) & STATX_MNT_ID:
        return 0
    return int.from_bytes(fields[144:152], sys.byteorder)


def open_tree(dir_fd: int, path: str, flags: int) -> int:
    """open_tree(2), Linux 5.2: a mount as a descriptor; with OPEN_TREE_CLONE a copy of it that is attached nowhere."""
    return check(_open_tree(dir_fd, encode(path), flags), "open_tree", path)


def move_mount(from_fd: int, source: str, to_fd: int, target: str, flags: int) -> None:
    """move_mount(2), Linux 5.2."""
    check(_move_mount(from_fd, encode(source), to_fd, encode(target), flags), "move_mount", source, target)


class _MountAttr(ctypes.Structure):
    _fields_ = [
        ("attr_set", ctypes.c_uint64),
        ("attr_clr", ctypes.c_uint64),
        ("propagation", ctypes.c_uint64),
        ("userns_fd", ctypes.c_uint64),
    ]


def mount_setattr(
    dir_fd: int,
    path: str,
    flags: int,
    *,
    attr_set: int = 0,
    attr_clr: int = 0,
    propagation: int = 0,
    userns_fd: int = 0,
) -> None:
    """mount_setattr(2), Linux 5.12: changes one mount, or with AT_RECURSIVE it and all that is mounted below."""
    attr = _MountAttr(attr_set, attr_clr, propagation, userns_fd)
    result = _mount_setattr(dir_fd, encode(path), flags, ctypes.byref(attr), ctypes.sizeof(attr))
    check(result, "mount_setattr", path)


FSOPEN_CLOEXEC = 0x1
FSMOUNT_CLOEXEC = 0x1
FSCONFIG_SET_FLAG = 0
FSCONFIG_SET_STRING = 1
FSCONFIG_CMD_CREATE = 6


def fsopen(fstype: str, flags: int) -> int:
    """fsopen(2), Linux 5.2: a descriptor in which a new file system is configured."""
    return check(_fsopen(encode(fstype), flags), "fsopen", fstype)


def fsconfig(fs_fd: int, command: int, key: str | None = None, value: str | None = None, aux: int = 0) -> None:
    """fsconfig(2), Linux 5.2: one parameter, or the command to create."""
    raw_key = None if key is None else encode(key)
    raw_value = None if value is None else encode(value)
    check(_fsconfig(fs_fd, command, raw_key, raw_value, aux), f"fsconfig {key}" if key else "fsconfig", value)


def fsmount(fs_fd: int, flags: int, attr_flags: int) -> int:
    """fsmount(2), Linux 5.2: the configured file system as a mount that is attached nowhere yet."""
    return check(_fsmount(fs_fd, flags, attr_flags), "fsmount")


def pidfd_open(pid: int, flags: int = 0) -> int:
    """pidfd_open(2), Linux 5.3. `os.pidfd_open` is missing where Python was built against old headers."""
    return check(_pidfd_open(pid, flags), "pidfd_open", str(pid))


def pidfd_send_signal(pidfd: int, signal: int) -> None:
    """pidfd_send_signal(2), Linux 5.1."""
    check(_pidfd_send_signal(pidfd, signal, None, 0), "pidfd_send_signal")


CLOSE_RANGE_CLOEXEC = 4


def close_range(first: int, flags: int) -> None:
    """close_range(2), Linux 5.9 (CLOSE_RANGE_CLOEXEC: 5.11): all descriptors from `first` on."""
    check(_close_range(first, 0xFFFFFFFF, flags), "close_range")
