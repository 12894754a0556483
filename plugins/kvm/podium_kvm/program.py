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
from podium_kvm.assembler import EXIT, WRITE, Assembler

REPORT_FD = 9
_MESSAGE = 4096  # bytes of a message
_DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_LAST_CAPABILITY = 40  # CAP_CHECKPOINT_RESTORE (capabilities(7)); a guest that knows fewer refuses to drop it

# asm/unistd_64.h
_OPEN, _CLOSE, _IOCTL, _DUP2, _FORK, _EXECVE, _WAIT4 = 2, 3, 16, 33, 57, 59, 61
_SIGACTION, _SIGPROCMASK, _CHDIR, _MKDIR, _UMASK = 13, 14, 80, 83, 95
_SETSID, _SETGROUPS, _SETRESUID, _SETRESGID = 112, 116, 117, 119
_PRCTL, _CHROOT, _UNSHARE, _PRLIMIT, _SECCOMP, _CLOSE_RANGE = 157, 161, 272, 302, 317, 436
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
    made = _Program()
    made.fork_and_report()
    made.must("descriptors", _CLOSE_RANGE, 3, 0xFFFFFFFF, 0)
    if terminal:
        made.must("terminal", _IOCTL, 0, _TIOCSPTLCK, made.data(bytes(8)))
        made.must("terminal", _IOCTL, 0, _TIOCGPTPEER, os.O_RDWR | os.O_NOCTTY)  # returns 3: all above 2 are closed
        for fd in (0, 1, 2):
            made.must("terminal", _DUP2, 3, fd)
        made.must("terminal", _CLOSE, 3)
    made.write_file("cgroup", f"/sys/fs/cgroup/pod/{launch.cgroup}/cgroup.procs", b"0")
    made.must("cgroup", _UNSHARE, _CLONE_NEWCGROUP)  # so /proc/self/cgroup fits what it sees in /sys/fs/cgroup
    made.write_file("oom_score_adj", "/proc/self/oom_score_adj", str(launch.oom_score_adj or 0).encode())
    for name, (soft, hard) in launch.rlimits.items():
        limits = made.data(struct.pack("<QQ", soft & (1 << 64) - 1, hard & (1 << 64) - 1))
        made.must(f"rlimit {name}", _PRLIMIT, 0, getattr(resource, f"RLIMIT_{name}"), limits, 0)
    made.must("session", _SETSID)
    if terminal:
        made.must("terminal", _IOCTL, 0, _TIOCSCTTY, 0)
    made.must("root", _CHROOT, made.text(launch.root))
    made.must("root", _CHDIR, made.text("/"))
    parts = [part for part in launch.cwd.split("/") if part]
    for depth in range(len(parts)):
        made.syscall(_MKDIR, made.text("/" + "/".join(parts[: depth + 1])), 0o755)
    if launch.capabilities is not None:
        for number in sorted(set(range(_LAST_CAPABILITY + 1)) - set(launch.capabilities)):
            made.must(f"capability {number}", _PRCTL, _PR_CAPBSET_DROP, number, 0, 0, 0)
    groups = made.data(struct.pack(f"<{len(launch.groups)}I", *launch.groups))
    made.must("groups", _SETGROUPS, len(launch.groups), groups)
    made.must("group", _SETRESGID, launch.gid, launch.gid, launch.gid)
    made.must("user", _SETRESUID, launch.uid, launch.uid, launch.uid)
    made.must("working directory", _CHDIR, made.text(launch.cwd), code=126)
    made.must("umask", _UMASK, 0o022)
    default = made.data(bytes(32))
    for number in range(1, 65):
        if number not in (signal.SIGKILL, signal.SIGSTOP):
            made.must("signals", _SIGACTION, number, default, 0, 8)
    made.must("signals", _SIGPROCMASK, signal.SIG_SETMASK, default, 0, 8)
    argv = made.strings(launch.argv)
    environment = made.strings([f"{name}={value}" for name, value in launch.environment.items()])
    candidates = [made.text(path) for path in _candidates(launch)]
    if launch.no_new_privileges or launch.seccomp:
        made.must("no_new_privs", _PRCTL, _PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    if launch.seccomp:
        filters = made.data(launch.seccomp)
        made.must("seccomp", _SECCOMP, 1, 0, made.data(struct.pack("<HxxxxxxQ", len(launch.seccomp) // 8, filters)))
    made.execute(candidates, argv, environment, launch.argv[0])
    return made.elf()


def listener(root: str) -> bytes:
    """A program that makes an app's NOTIFY_SOCKET in its `root`, and leaves a child.

    That prints each message that arrives, and a newline, until nobody reads what it prints.
    """
    made = _Program()
    made.must("descriptors", _CLOSE_RANGE, 3, 0xFFFFFFFF, 0)
    made.must("root", _CHROOT, made.text(root))
    made.syscall(_MKDIR, made.text(os.path.dirname(APP_SOCKET)), 0o755)
    made.syscall(_UNLINK, made.text(APP_SOCKET))
    made.must("socket", _SOCKET, socket.AF_UNIX, socket.SOCK_DGRAM, 0)  # returns 3
    address = struct.pack("<H", socket.AF_UNIX) + APP_SOCKET.encode() + b"\0"
    made.must(f"socket {APP_SOCKET}", _BIND, 3, made.data(address), len(address))
    made.must("socket", _CHMOD, made.text(APP_SOCKET), 0o666)  # any user of the app's
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


class _Program(Assembler):
    """One that runs in a guest: it makes system calls one after the other, and ends with a message where one fails."""

    def must(self, step: str, number: int, *arguments: int, code: int = 125) -> None:
        """A system call that must succeed."""
        done = self.fresh("done")
        self.syscall(number, *arguments)
        self.compare("rax", -4095)
        self.jump(done, "below")
        self.fail(step, code)
        self.label(done)

    def fail(self, what: str, code: int) -> None:
        """Say what failed on standard error and end."""
        message = f"podium: the guest can't start the app: {what}\n".encode("utf-8", "surrogateescape")
        self.syscall(WRITE, 2, self.data(message), len(message))
        self.syscall(EXIT, code)

    def write_file(self, step: str, path: str, content: bytes) -> None:
        """Write to a file; the descriptor is 3, since all above 2 are closed."""
        self.must(step, _OPEN, self.text(path), 1)
        self.must(step, WRITE, 3, self.data(content), len(content))
        self.syscall(_CLOSE, 3)

    def fork_and_report(self) -> None:
        """What follows is the child's; the parent reports its pid, waits, and reports its wait status."""
        pid, status = self.data(bytes(8)), self.data(bytes(8))
        self.syscall(_FORK)
        self.compare("rax", 0)
        self.jump("child", "equal")
        self.move("rbx", "rax")
        self.store(pid, "rbx")
        self.syscall(WRITE, REPORT_FD, pid, 8)
        for fd in (0, 1, 2):
            self.syscall(_CLOSE, fd)
        self.label("wait")
        self.syscall(_WAIT4, "rbx", status, 0, 0)
        self.compare("rax", -errno.EINTR)
        self.jump("wait", "equal")
        self.syscall(WRITE, REPORT_FD, status, 8)
        self.syscall(EXIT, 0)
        self.label("child")

    def fork_and_leave(self) -> None:
        """What follows is the child's; the parent ends well."""
        self.syscall(_FORK)
        self.compare("rax", 0)
        self.jump("child", "equal")
        self.syscall(EXIT, 0)
        self.label("child")

    def copy_messages(self, source: int, target: int) -> None:
        """Copy what each read gives, and a newline, until either fails."""
        buffer, newline = self.data(bytes(_MESSAGE)), self.data(b"\n")
        self.label("message")
        self.syscall(_READ, source, buffer, _MESSAGE)
        self.move("rbx", "rax")
        self.compare("rax", 0)
        self.jump("copied", "not positive")
        self.syscall(WRITE, target, buffer, "rbx")
        self.syscall(WRITE, target, newline, 1)
        self.jump("message")
        self.label("copied")
        self.syscall(EXIT, 0)

    def execute(self, candidates: list[int], argv: int, environment: int, command: str) -> None:
        """Execute the first candidate that can be; 127 if there is none at all, 126 if none can be executed."""
        self.move("rbx", 0)
        for path in candidates:
            missing = self.fresh("missing")
            self.syscall(_EXECVE, path, argv, environment)
            for number in (errno.ENOENT, errno.ENOTDIR):
                self.compare("rax", -number)
                self.jump(missing, "equal")
            self.move("rbx", 1)
            self.label(missing)
        self.compare("rbx", 0)
        self.jump("refused", "different")
        self.fail(f"command {command!r} was not found in the image", 127)
        self.label("refused")
        self.fail(f"command {command!r} can't be executed", 126)
