"""Running a test's body in a child process, with mounts of its own, on a tmpfs, or without some system call."""

from __future__ import annotations

import ctypes
import os
import struct
import sys
import traceback
from collections.abc import Callable

from podium.linux import mount, syscalls

MOUNT_SETATTR = syscalls.number("mount_setattr")
OPENAT2 = syscalls.number("openat2")
FSOPEN = syscalls.number("fsopen")


def in_child(function: Callable[[], object]) -> None:
    """Calls `function` in a forked child; what it raises there fails the test here."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            os.close(reader)
            function()
            status = 0
        except BaseException:
            os.write(writer, traceback.format_exc().encode(errors="replace")[-60_000:])
        finally:
            sys.stdout.flush()
            os._exit(status)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        text = pipe.read().decode()
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0, text


def in_private_mounts(function: Callable[[], object]) -> None:
    """Calls `function` in a child whose mounts nobody else sees."""

    def child() -> None:
        mount.unshare_mounts()
        mount.set_propagation("/", mount.MS_PRIVATE | mount.MS_REC)
        function()

    in_child(child)


def in_tmpfs(folder: str, function: Callable[[str], object], options: str = "") -> None:
    """Calls `function` with `folder`, on which a fresh tmpfs is mounted that nobody else sees."""

    def child() -> None:
        mount.mount("tmpfs", folder, "tmpfs", 0, options or None)
        function(folder)

    in_private_mounts(child)


def without_syscall(number: int) -> None:
    """From now on the kernel says of this system call that it doesn't know it, as an old one does (seccomp(2))."""
    load, jump, give = 0x20, 0x15, 0x06
    program = b"".join(
        struct.pack("=HBBI", *instruction)
        for instruction in (
            (load, 0, 0, 0),
            (jump, 0, 1, number),
            (give, 0, 0, 0x0005_0000 | 38),
            (give, 0, 0, 0x7FFF_0000),
        )
    )
    code = ctypes.create_string_buffer(program)
    header = ctypes.create_string_buffer(struct.pack("@HP", 4, ctypes.addressof(code)))
    syscalls.prctl(38, 1)
    syscalls.prctl(22, 2, ctypes.addressof(header))
