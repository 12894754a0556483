"""How an app starts inside the guest: a static x86-64 ELF program, made on the host for each start.

The guest has nothing but busybox, whose applets can neither keep capabilities nor set supplementary groups beside
limits and a filter. So what `podium.sandbox.app` does by system calls in a child, this writes down as system calls: a
straight line of machine code that enters the cgroup, changes its root, drops, and executes the command. Its parent half
waits for the command and reports pid and wait status (wait(2)) on descriptor 9, 8 bytes each.
"""

from __future__ import annotations

import errno
import os
import resource
import signal
import socket
import struct

from podium.sandbox.launch import Launch
from podium.sandbox.notify import APP_SOCKET

REPORT_FD = 9
_CODE, _DATA = 0x400000, 0x10000000
_HEADER = 64 + 2 * 56
_MESSAGE = 4096  # bytes of a message
_DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_LAST_CAPABILITY = 40  # CAP_CHECKPOINT_RESTORE (capabilities(7)); a guest that knows fewer refuses to drop it
_REGISTERS = (b"\x48\xbf", b"\x48\xbe", b"\x48\xba", b"\x49\xba", b"\x49\xb8", b"\x49\xb9")  # rdi rsi rdx r10 r8 r9

# asm/unistd_64.h
_WRITE, _OPEN, _CLOSE, _IOCTL, _DUP2, _FORK, _EXECVE, _WAIT4 = 1, 2, 3, 16, 33, 57, 59, 61
_SIGACTION, _SIGPROCMASK, _CHDIR, _MKDIR, _UMASK = 13, 14, 80, 83, 95
_SETSID, _SETGROUPS, _SETRESUID, _SETRESGID = 112, 116, 117, 119
_PRCTL, _CHROOT, _EXIT, _UNSHARE, _PRLIMIT, _SECCOMP, _CLOSE_RANGE = 157, 161, 231, 272, 302, 317, 436
_READ, _SOCKET, _BIND, _UNLINK, _CHMOD = 0, 41, 49, 87, 90
_CLONE_NEWCGROUP = 0x02000000
_PR_CAPBSET_DROP, _PR_SET_NO_NEW_PRIVS = 24, 38
_TIOCSCTTY, _TIOCSPTLCK, _TIOCGPTPEER = 0x540E, 0x40045431, 0x5441  # ioctl_tty(2)


def build(launch: Launch, *, terminal: bool = False) -> bytes:
    """The program that starts `launch` in the guest.

    With `terminal`, its streams are the master of a new pseudo terminal, whose other end becomes the command's.
    It ends with the command's report; where a step fails, the command's place is taken by a message on its standard
    error and the exit code 127 (not found), 126 (can't be executed) or 125.
    """
    made = _Assembler()
    made.fork_and_report()
    made.call("descriptors", _CLOSE_RANGE, 3, 0xFFFFFFFF, 0)
    if terminal:
        made.call("terminal", _IOCTL, 0, _TIOCSPTLCK, made.data(bytes(8)))
        made.call("terminal", _IOCTL, 0, _TIOCGPTPEER, os.O_RDWR | os.O_NOCTTY)  # returns 3: all above 2 are closed
        for fd in (0, 1, 2):
            made.call("terminal", _DUP2, 3, fd)
        made.call("terminal", _CLOSE, 3)
    made.write_file("cgroup", f"/sys/fs/cgroup/pod/{launch.cgroup}/cgroup.procs", b"0")
    made.call("cgroup", _UNSHARE, _CLONE_NEWCGROUP)  # so /proc/self/cgroup fits what it sees in /sys/fs/cgroup
    made.write_file("oom_score_adj", "/proc/self/oom_score_adj", str(launch.oom_score_adj or 0).encode())
    for name, (soft, hard) in launch.rlimits.items():
        limits = made.data(struct.pack("<QQ", soft & (1 << 64) - 1, hard & (1 << 64) - 1))
        made.call(f"rlimit {name}", _PRLIMIT, 0, getattr(resource, f"RLIMIT_{name}"), limits, 0)
    made.call("session", _SETSID)
    if terminal:
        made.call("terminal", _IOCTL, 0, _TIOCSCTTY, 0)
    made.call("root", _CHROOT, made.text(launch.root))
    made.call("root", _CHDIR, made.text("/"))
    parts = [part for part in launch.cwd.split("/") if part]
    for depth in range(len(parts)):
        made.call(None, _MKDIR, made.text("/" + "/".join(parts[: depth + 1])), 0o755)
    if launch.capabilities is not None:
        for number in sorted(set(range(_LAST_CAPABILITY + 1)) - set(launch.capabilities)):
            made.call(f"capability {number}", _PRCTL, _PR_CAPBSET_DROP, number, 0, 0, 0)
    groups = made.data(struct.pack(f"<{len(launch.groups)}I", *launch.groups))
    made.call("groups", _SETGROUPS, len(launch.groups), groups)
    made.call("group", _SETRESGID, launch.gid, launch.gid, launch.gid)
    made.call("user", _SETRESUID, launch.uid, launch.uid, launch.uid)
    made.call("working directory", _CHDIR, made.text(launch.cwd), code=126)
    made.call("umask", _UMASK, 0o022)
    default = made.data(bytes(32))
    for number in range(1, 65):
        if number not in (signal.SIGKILL, signal.SIGSTOP):
            made.call("signals", _SIGACTION, number, default, 0, 8)
    made.call("signals", _SIGPROCMASK, signal.SIG_SETMASK, default, 0, 8)
    argv = made.strings(launch.argv)
    environment = made.strings([f"{name}={value}" for name, value in launch.environment.items()])
    candidates = [made.text(path) for path in _candidates(launch)]
    if launch.no_new_privileges or launch.seccomp:
        made.call("no_new_privs", _PRCTL, _PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    if launch.seccomp:
        filters = made.data(launch.seccomp)
        made.call("seccomp", _SECCOMP, 1, 0, made.data(struct.pack("<HxxxxxxQ", len(launch.seccomp) // 8, filters)))
    made.execute(candidates, argv, environment, launch.argv[0])
    return made.elf()


def listener(root: str) -> bytes:
    """A program that makes an app's NOTIFY_SOCKET in its `root`, and leaves a child.

    That prints each message that arrives, and a newline, until nobody reads what it prints.
    """
    made = _Assembler()
    made.call("descriptors", _CLOSE_RANGE, 3, 0xFFFFFFFF, 0)
    made.call("root", _CHROOT, made.text(root))
    made.call(None, _MKDIR, made.text(os.path.dirname(APP_SOCKET)), 0o755)
    made.call(None, _UNLINK, made.text(APP_SOCKET))
    made.call("socket", _SOCKET, socket.AF_UNIX, socket.SOCK_DGRAM, 0)  # returns 3
    address = struct.pack("<H", socket.AF_UNIX) + APP_SOCKET.encode() + b"\0"
    made.call(f"socket {APP_SOCKET}", _BIND, 3, made.data(address), len(address))
    made.call("socket", _CHMOD, made.text(APP_SOCKET), 0o666)  # any user of the app's
    made.fork_and_leave()
    made.copy_messages(3, 1)
    return made.elf()


def _candidates(launch: Launch) -> list[str]:
    """Where the command may be: execvp(3)'s search in the app's own PATH."""
    command = launch.argv[0]
    if "/" in command:
        return [command]
    folders = launch.environment.get("PATH", _DEFAULT_PATH).split(":")
    return [f"{folder.rstrip('/') or '.' if folder != '/' else ''}/{command}" for folder in folders]


class _Assembler:
    """Just enough of x86-64: system calls one after the other, each with its own way to fail."""

    def __init__(self) -> None:
        self._code = bytearray()
        self._data = bytearray()

    def data(self, content: bytes) -> int:
        """Place bytes in the program; returns their address."""
        self._data += bytes(-len(self._data) % 8)
        address = _DATA + len(self._data)
        self._data += content or bytes(8)
        return address

    def text(self, text: str) -> int:
        """Place a string."""
        return self.data(text.encode("utf-8", "surrogateescape") + b"\0")

    def strings(self, texts: list[str] | tuple[str, ...]) -> int:
        """Place a vector of strings, as execve(2) takes it."""
        places = [self.text(text) for text in texts]
        return self.data(struct.pack(f"<{len(places) + 1}Q", *places, 0))

    def _raw(self, number: int, *arguments: int) -> None:
        for register, value in zip(_REGISTERS, arguments, strict=False):
            self._code += register + struct.pack("<Q", value & (1 << 64) - 1)
        self._code += b"\x48\xb8" + struct.pack("<Q", number) + b"\x0f\x05"  # mov rax, number; syscall

    def call(self, step: str | None, number: int, *arguments: int, code: int = 125) -> None:
        """A system call that must succeed, unless it has no name."""
        self._raw(number, *arguments)
        if step is None:
            return
        failing = _Assembler()
        failing._data = self._data
        failing.fail(step, code)
        self._data = failing._data
        # cmp rax, -4095; jb over
        self._code += b"\x48\x3d\x01\xf0\xff\xff\x0f\x82" + struct.pack("<i", len(failing._code)) + failing._code

    def fail(self, what: str, code: int) -> None:
        """Say what failed on standard error and end."""
        message = f"podium: the guest can't start the app: {what}\n".encode("utf-8", "surrogateescape")
        self._raw(_WRITE, 2, self.data(message), len(message))
        self._raw(_EXIT, code)

    def write_file(self, step: str, path: str, content: bytes) -> None:
        """Write to a file; the descriptor is 3, since all above 2 are closed."""
        self.call(step, _OPEN, self.text(path), 1)
        self.call(step, _WRITE, 3, self.data(content), len(content))
        self.call(None, _CLOSE, 3)

    def fork_and_report(self) -> None:
        """What follows is the child's; the parent reports its pid, waits, and reports its wait status."""
        self._raw(_FORK)
        parent = _Assembler()
        parent._data = self._data
        pid, status = parent.data(bytes(8)), parent.data(bytes(8))
        parent._code += b"\x49\x89\xc4\x48\xa3" + struct.pack("<Q", pid)  # mov r12, rax; mov [pid], rax
        parent._raw(_WRITE, REPORT_FD, pid, 8)
        for fd in (0, 1, 2):
            parent._raw(_CLOSE, fd)
        start = len(parent._code)
        parent._raw(_WAIT4, 0, status, 0, 0)
        parent._code[start : start + 10] = b"\x4c\x89\xe7" + b"\x90" * 7  # mov rdi, r12
        parent._code += b"\x48\x83\xf8" + struct.pack("b", -errno.EINTR)  # cmp rax, -EINTR; je start
        parent._code += b"\x0f\x84" + struct.pack("<i", start - len(parent._code) - 6)
        parent._raw(_WRITE, REPORT_FD, status, 8)
        parent._raw(_EXIT, 0)
        self._data = parent._data
        # test rax, rax; jz over
        self._code += b"\x48\x85\xc0\x0f\x84" + struct.pack("<i", len(parent._code)) + parent._code

    def fork_and_leave(self) -> None:
        """What follows is the child's; the parent ends well."""
        self._raw(_FORK)
        parent = _Assembler()
        parent._raw(_EXIT, 0)
        self._code += b"\x48\x85\xc0\x74" + struct.pack("b", len(parent._code)) + parent._code  # test rax, rax; jz

    def copy_messages(self, source: int, target: int) -> None:
        """Copy what each read gives, and a newline, until either fails."""
        buffer, newline, start = self.data(bytes(_MESSAGE)), self.data(b"\n"), len(self._code)
        self._raw(_READ, source, buffer, _MESSAGE)
        self._code += b"\x48\x85\xc0\x0f\x8e" + bytes(4)  # test rax, rax; jle to the end
        leave = len(self._code)
        self._code += b"\x48\x89\xc3"  # mov rbx, rax
        third = len(self._code) + 20
        self._raw(_WRITE, target, buffer, 0)
        self._code[third : third + 10] = b"\x48\x89\xda" + b"\x90" * 7  # mov rdx, rbx
        self._raw(_WRITE, target, newline, 1)
        self._code += b"\xe9" + struct.pack("<i", start - len(self._code) - 5)
        self._code[leave - 4 : leave] = struct.pack("<i", len(self._code) - leave)
        self._raw(_EXIT, 0)

    def execute(self, candidates: list[int], argv: int, environment: int, command: str) -> None:
        """Execute the first candidate that can be; 127 if there is none at all, 126 if none can be executed."""
        self._code += b"\x4d\x31\xed"  # xor r13, r13
        for path in candidates:
            self._raw(_EXECVE, path, argv, environment)
            # cmp rax, -ENOENT; je over; cmp rax, -ENOTDIR; je over; mov r13, 1
            self._code += b"\x48\x83\xf8" + struct.pack("b", -errno.ENOENT) + b"\x74\x0d"
            self._code += b"\x48\x83\xf8" + struct.pack("b", -errno.ENOTDIR) + b"\x74\x07"
            self._code += b"\x49\xc7\xc5\x01\x00\x00\x00"
        missing = _Assembler()
        missing._data = self._data
        missing.fail(f"command {command!r} was not found in the image", 127)
        self._data = missing._data
        self._code += b"\x4d\x85\xed\x0f\x85" + struct.pack("<i", len(missing._code)) + missing._code  # jnz over
        self.fail(f"command {command!r} can't be executed", 126)

    def elf(self) -> bytes:
        """The whole file: elf(5), one segment of code and one of data."""
        at = _HEADER + len(self._code)
        gap = -at % 4096
        offset = at + gap
        ident = b"\x7fELF\x02\x01\x01" + bytes(9)
        header = ident + struct.pack("<HHIQQQIHHHHHH", 2, 62, 1, _CODE + _HEADER, 64, 0, 0, 64, 56, 2, 64, 0, 0)
        code = struct.pack("<IIQQQQQQ", 1, 5, 0, _CODE, _CODE, at, at, 4096)
        data = struct.pack("<IIQQQQQQ", 1, 6, offset, _DATA, _DATA, len(self._data), len(self._data), 4096)
        return bytes(header + code + data + self._code + bytes(gap) + self._data)
