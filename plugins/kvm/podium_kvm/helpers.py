"""Programs of the guest that busybox has not, each a file of some hundred bytes in its initial file system."""

from __future__ import annotations

import os
import struct
from _socket import AF_UNIX, SOCK_DGRAM

from podium.sandbox.notify import APP_SOCKET
from podium_kvm.assembler import CODE, DATA, EXIT, WRITE
from podium_kvm.steps import Steps

_LOADER = (0x200000, 0x300000)  # addresses of its code and data, below those of what it loads
_MESSAGE = 4096  # bytes of a message

# asm/unistd_64.h
_READ, _MMAP, _FORK = 0, 9, 57
_SOCKET, _BIND, _MKDIR, _UNLINK, _CHMOD, _CHROOT, _CLOSE_RANGE = 41, 49, 83, 87, 90, 161, 436
_READ_WRITE_EXECUTE, _PRIVATE_ANONYMOUS_FIXED = 7, 0x32  # mman(2)


def loader(fd: int) -> bytes:
    """A program that reads an `Assembler.image` from a descriptor, leaves a child that goes on there, and ends."""
    made = Steps(*_LOADER)
    lengths = made.data(bytes(24))
    made.move("rbx", lengths)
    made.move("rbp", 24)
    _read(made, fd)
    for place, given, needed in ((CODE, lengths, lengths), (DATA, lengths + 8, lengths + 16)):
        made.load("rsi", needed)
        kind = (_READ_WRITE_EXECUTE, _PRIVATE_ANONYMOUS_FIXED, -1, 0)
        made.must("the guest has no memory for a program", _MMAP, place, "rsi", *kind)
        made.move("rbx", place)
        made.load("rbp", given)
        _read(made, fd)
    made.must("the guest can't start a process", _FORK)
    made.compare("rax", 0)
    made.jump("done", "different")
    made.go(CODE)
    made.label("done")
    made.syscall(EXIT, 0)
    made.label("lost")
    made.syscall(EXIT, 1)
    return made.elf()


def _read(made: Steps, fd: int) -> None:
    """Read rbp bytes to rbx."""
    again = made.fresh("again")
    made.label(again)
    made.syscall(_READ, fd, "rbx", "rbp")
    made.compare("rax", 0)
    made.jump("lost", "not positive")
    made.add("rbx", "rax")
    made.subtract("rbp", "rax")
    made.jump(again, "positive")


def listener(root: str) -> bytes:
    """A program that makes an app's NOTIFY_SOCKET in its `root`, and leaves a child.

    That prints each message that arrives, and a newline, until nobody reads what it prints.
    """
    made = Steps()
    why = f"the app can't be given the socket {APP_SOCKET}"
    buffer, newline = made.data(bytes(_MESSAGE)), made.data(b"\n")
    made.must(why, _CLOSE_RANGE, 3, 0xFFFFFFFF, 0)
    made.must(why, _CHROOT, made.text(root))
    made.syscall(_MKDIR, made.text(os.path.dirname(APP_SOCKET)), 0o755)
    made.syscall(_UNLINK, made.text(APP_SOCKET))
    made.must(why, _SOCKET, AF_UNIX, SOCK_DGRAM, 0)  # returns 3
    address = struct.pack("<H", AF_UNIX) + APP_SOCKET.encode() + b"\0"
    made.must(why, _BIND, 3, made.data(address), len(address))
    made.must(why, _CHMOD, made.text(APP_SOCKET), 0o666)  # any user of the app's
    made.must(why, _FORK)
    made.compare("rax", 0)
    made.jump("end", "different")
    made.label("message")
    made.syscall(_READ, 3, buffer, _MESSAGE)
    made.move("rbx", "rax")
    made.compare("rax", 0)
    made.jump("end", "not positive")
    made.syscall(WRITE, 1, buffer, "rbx")
    made.syscall(WRITE, 1, newline, 1)
    made.jump("message")
    made.label("end")
    made.syscall(EXIT, 0)
    return made.elf()
