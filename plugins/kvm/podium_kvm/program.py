"""How a command starts inside the guest: machine code, made on the host for each start.

The guest has nothing but busybox, whose applets can neither keep capabilities nor set supplementary groups beside
limits and a filter. So what `podium.sandbox.app` does by system calls in a child, this writes down as system calls: a
straight line of machine code that enters the cgroup, changes its root, drops, and executes the command. Before it forks
there, it makes pipes, and after it processes that copy between them and the command's ports; then it waits for the
command and for what is still on its way, and tells the host. In an emulated guest a process of a few pages forks in a
fraction of the milliseconds that a shell needs.
"""

from __future__ import annotations

import errno
import os
import resource
import struct

from podium.linux.signals import signal
from podium.sandbox.launch import DEFAULT_PATH, Launch
from podium_kvm.assembler import EXIT, WRITE
from podium_kvm.steps import Steps

CTL_FD = 3
_SCREEN_FD, _IN_FD, _OUT_FD, _ERR_FD = 6, 7, 8, 9  # what the agent (guest/init) has open, too
_LAST_CAPABILITY = 40  # CAP_CHECKPOINT_RESTORE (capabilities(7)); a guest that knows fewer refuses to drop it
_CHUNK = 1 << 16  # bytes that are copied at once
_EVENTS = 256  # bytes of memory.events(.local) that are looked at

# asm/unistd_64.h
_READ, _OPEN, _CLOSE, _IOCTL, _DUP2, _FORK, _EXECVE, _WAIT4 = 0, 2, 3, 16, 33, 57, 59, 61
_SIGACTION, _SIGPROCMASK, _KILL, _CHDIR, _MKDIR, _UNLINK, _FCHOWN, _UMASK = 13, 14, 62, 80, 83, 87, 93, 95
_SETSID, _SETGROUPS, _SETRESUID, _SETRESGID, _PIPE2 = 112, 116, 117, 119, 293
_PRCTL, _CHROOT, _UNSHARE, _PRLIMIT, _SECCOMP, _CLOSE_RANGE, _CLONE3 = 157, 161, 272, 302, 317, 436, 435
_CLONE_NEWCGROUP, _CLONE_INTO_CGROUP = 0x02000000, 0x200000000
_PR_CAPBSET_DROP, _PR_SET_NO_NEW_PRIVS = 24, 38
_TIOCSCTTY, _TIOCSPTLCK, _TIOCGPTPEER = 0x540E, 0x40045431, 0x5441  # ioctl_tty(2)


def build(launch: Launch, key: str, *, terminal: bool = False, whole: bool = False) -> bytes:
    """What starts `launch` in the guest and serves it until it has ended, for `helpers.loader`.

    With `terminal`, its streams are those of a new pseudo terminal whose master the agent has open. Where a step
    fails, the command's place is taken by a message on its standard error and the exit code 127 (not found), 126
    (can't be executed) or 125.

    Args:
        launch: what to start; its cgroup is the app's name.
        key: /run/KEY is there; the command's pid is put into it, and it is removed once the command has ended.
        terminal: whether it has a terminal.
        whole: what is left in the cgroup when it has ended is killed.
    """
    made = _Program(launch, terminal=terminal)
    made.serve(f"/run/{key}", whole=whole)
    made.take_streams()
    made.confine()
    made.execute()
    return made.image()


class _Program(Steps):
    """The program. r12 is the command's pid, then its wait status; r13, r14 and r15 are pids of those who copy."""

    def __init__(self, launch: Launch, *, terminal: bool) -> None:
        super().__init__()
        self._launch = launch
        self._cgroup = f"/sys/fs/cgroup/pod/{launch.cgroup}"
        self._pipes = () if terminal else tuple(self.data(bytes(8)) for _ in range(3))
        self._events = self.data(bytes(_EVENTS))
        self._zeroes = self.data(bytes(32))

    def fail(self, what: str, code: int) -> None:
        """See `Steps.fail`."""
        super().fail(f"the guest can't start the app: {what}", code)

    def serve(self, told: str, *, whole: bool) -> None:
        """The parent's side: from before the fork to the report of the end. What follows is the child's."""
        self.rescue = "lost"
        path, status, digits = self.text(told), self.data(bytes(8)), self.data(bytes(16)) + 16
        self.syscall(_DUP2, _ERR_FD if self._pipes else _OUT_FD, 2)  # where it is told what fails
        self._killed_for_memory()
        self.move("rbp", "rax")
        for ends in self._pipes:
            self.must("pipes", _PIPE2, ends, os.O_CLOEXEC)
            if self._launch.uid or self._launch.gid:  # so that it may open /dev/stdout
                self.load("rdi", ends, 4)
                self.must("pipes", _FCHOWN, "rdi", self._launch.uid, self._launch.gid)
        self._fork_into_cgroup()
        self.compare("rax", 0)
        self.jump("child", "equal")
        self.move("r12", "rax")
        self.must("pid", _OPEN, path, os.O_WRONLY)
        self.move("rbx", "rax")
        self._decimal(digits)
        self.syscall(WRITE, "rbx", "rsi", "rdx")
        self.syscall(_CLOSE, "rbx")
        self._copy()
        self.syscall(_WAIT4, "r12", status, 0, 0)
        if whole:
            self._kill_rest()
        self.syscall(_KILL, "r14", signal.SIGKILL)  # what the command has not read is nobody's
        for copier in ("r13", "r15") if self._pipes else ("r13",):
            self.syscall(_WAIT4, copier, 0, 0, 0)
        self.load("r12", status, 4)
        self.jump("report")
        self.label("lost")
        if whole:
            self._kill_rest()
        self.times("r12", 1 << 8)  # the wait status of an exit code
        self.label("report")
        self.syscall(_UNLINK, path)
        self._report()
        self.label("child")
        self.rescue = ""

    def _fork_into_cgroup(self) -> None:
        """A process that begins there need not be moved, for which the kernel would wait (clone(2))."""
        given = struct.pack("<QQQQQ48x", _CLONE_INTO_CGROUP, 0, 0, 0, signal.SIGCHLD)  # its last field is the cgroup
        place = self.data(given)
        self.must("cgroup", _OPEN, self.text(self._cgroup), os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        self.store(place + len(given) - 8, "rax")
        self.must("process", _CLONE3, place, len(given))

    def _copy(self) -> None:
        """Start who copies in (r14), out (r13) and errors (r15), and keep no end of a pipe."""
        if not self._pipes:
            for source, target, register in ((_SCREEN_FD, _OUT_FD, "r13"), (_IN_FD, _SCREEN_FD, "r14")):
                self.move("r8", source)
                self.move("r9", target)
                self._copier(register)
            return
        given, out, err = self._pipes
        for end in (given, out + 4, err + 4):  # the command's: that an end is closed is told once nobody else has it
            self.load("rdi", end, 4)
            self.syscall(_CLOSE, "rdi")
        self.move("r8", _IN_FD)
        self.load("r9", given + 4, 4)
        self._copier("r14")
        self.syscall(_CLOSE, "r9")
        for ends, port, register in ((out, _OUT_FD, "r13"), (err, _ERR_FD, "r15")):
            self.load("r8", ends, 4)
            self.move("r9", port)
            self._copier(register)
            self.syscall(_CLOSE, "r8")

    def _copier(self, register: str) -> None:
        """A process that copies from descriptor r8 to r9 until either ends; its pid is put into `register`."""
        parent, again, more, end = map(self.fresh, ("parent", "again", "more", "end"))
        self.must("process", _FORK)
        self.compare("rax", 0)
        self.jump(parent, "different")
        self.label(again)
        self.move("rsi", "rsp")
        self.subtract("rsi", _CHUNK)
        self.syscall(_READ, "r8", "rsi", _CHUNK)
        self.compare("rax", 0)
        self.jump(end, "not positive")
        self.move("rbx", "rax")
        self.label(more)
        self.syscall(WRITE, "r9", "rsi", "rbx")
        self.compare("rax", 0)
        self.jump(end, "not positive")
        self.add("rsi", "rax")
        self.subtract("rbx", "rax")
        self.jump(more, "positive")
        self.jump(again)
        self.label(end)
        self.syscall(EXIT, 0)
        self.label(parent)
        self.move(register, "rax")

    def _killed_for_memory(self) -> None:
        """Put into rax what tells how many of the app's processes were: the first 8 bytes of that field."""
        search, found, none, done = map(self.fresh, ("search", "found", "none", "done"))
        self.syscall(_OPEN, self.text(f"{self._cgroup}/memory.events"), os.O_RDONLY)
        self.compare("rax", 0)
        self.jump(none, "negative")
        self.move("rbx", "rax")
        self.syscall(_READ, "rbx", self._events, _EVENTS)
        self.syscall(_CLOSE, "rbx")
        self.move("rsi", self._events)
        self.move("rcx", int.from_bytes(b"oom_kill", "little"))
        self.label(search)
        self.load("rax", "rsi")
        self.compare("rax", "rcx")
        self.jump(found, "equal")
        self.add("rsi", 1)
        self.compare("rsi", self._events + _EVENTS - 16)
        self.jump(search, "different")
        self.label(none)
        self.move("rax", 0)
        self.jump(done)
        self.label(found)
        self.add("rsi", 8)
        self.load("rax", "rsi")
        self.label(done)

    def _decimal(self, end: int) -> None:
        """Write the number in r12 so that it ends before the address `end`: from rsi on, rdx bytes."""
        again = self.fresh("again")
        self.move("rax", "r12")
        self.move("rsi", end)
        self.move("rcx", 10)
        self.label(again)
        self.divide("rcx")
        self.add("rdx", ord("0"))
        self.subtract("rsi", 1)
        self.store("rsi", "rdx", 1)
        self.compare("rax", 0)
        self.jump(again, "different")
        self.move("rdx", end)
        self.subtract("rdx", "rsi")

    def _report(self) -> None:
        """Tell the host of the wait status in r12, and end."""
        begin, same, ends = b" exited ", self.fresh("same"), (b" no \n", b" oom\n")
        end = self.data(bytes(24) + ends[0]) + 24
        self._killed_for_memory()
        self.compare("rax", "rbp")
        self.jump(same, "equal")
        self.move("rax", int.from_bytes(ends[1], "little"))
        self.store(end, "rax")
        self.label(same)
        self._decimal(end)
        self.move("rax", int.from_bytes(begin, "little"))
        self.subtract("rsi", len(begin))
        self.store("rsi", "rax")
        self.add("rsi", 1)
        self.add("rdx", len(begin) - 1 + len(ends[0]))
        self.syscall(WRITE, CTL_FD, "rsi", "rdx")
        self.syscall(EXIT, 0)

    def _kill_rest(self) -> None:
        self.syscall(_OPEN, self.text(f"{self._cgroup}/cgroup.kill"), os.O_WRONLY)
        self.move("rbx", "rax")
        self.syscall(WRITE, "rbx", self.data(b"1"), 1)
        self.syscall(_CLOSE, "rbx")

    def take_streams(self) -> None:
        """Have the command's ends of pipes or terminal as standard streams, and nothing else."""
        if self._pipes:
            given, out, err = self._pipes
            for fd, end in enumerate((given, out + 4, err + 4)):
                self.load("rdi", end, 4)
                self.must("streams", _DUP2, "rdi", fd)
        else:
            self.must("terminal", _IOCTL, _SCREEN_FD, _TIOCSPTLCK, self._zeroes)
            self.must("terminal", _IOCTL, _SCREEN_FD, _TIOCGPTPEER, os.O_RDWR | os.O_NOCTTY)
            self.move("rbx", "rax")
            for fd in (0, 1, 2):
                self.must("terminal", _DUP2, "rbx", fd)
        self.must("descriptors", _CLOSE_RANGE, 3, 0xFFFFFFFF, 0)

    def confine(self) -> None:
        """Enter cgroup and root, and give up what the app has not."""
        launch = self._launch
        self.must("cgroup", _UNSHARE, _CLONE_NEWCGROUP)  # so /proc/self/cgroup fits what it sees in /sys/fs/cgroup
        self.write_file("oom_score_adj", "/proc/self/oom_score_adj", str(launch.oom_score_adj or 0).encode())
        for name, (soft, hard) in launch.rlimits.items():
            limits = self.data(struct.pack("<QQ", soft & (1 << 64) - 1, hard & (1 << 64) - 1))
            self.must(f"rlimit {name}", _PRLIMIT, 0, getattr(resource, f"RLIMIT_{name}"), limits, 0)
        self.must("session", _SETSID)
        if not self._pipes:
            self.must("terminal", _IOCTL, 0, _TIOCSCTTY, 0)
        self.must("root", _CHROOT, self.text(launch.root))
        self.must("root", _CHDIR, self.text("/"))
        parts = [part for part in launch.cwd.split("/") if part]
        for depth in range(len(parts)):
            self.syscall(_MKDIR, self.text("/" + "/".join(parts[: depth + 1])), 0o755)
        if launch.capabilities is not None:
            self._drop(sorted(set(range(_LAST_CAPABILITY + 1)) - set(launch.capabilities)))
        groups = self.data(struct.pack(f"<{len(launch.groups)}I", *launch.groups))
        self.must("groups", _SETGROUPS, len(launch.groups), groups)
        self.must("group", _SETRESGID, launch.gid, launch.gid, launch.gid)
        self.must("user", _SETRESUID, launch.uid, launch.uid, launch.uid)
        self.must("working directory", _CHDIR, self.text(launch.cwd), code=126)
        self.must("umask", _UMASK, 0o022)
        self._reset_signals()
        if launch.no_new_privileges or launch.seccomp:
            self.must("no_new_privs", _PRCTL, _PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)

    def _drop(self, capabilities: list[int]) -> None:
        """In a loop, as the signals: under emulation each instruction costs far more the first time."""
        table = self.data(bytes([*capabilities, 0xFF]))
        self.move("rbx", table)
        self.label("capability")
        self.load("rsi", "rbx", 1)
        self.compare("rsi", 0xFF)
        self.jump("dropped", "equal")
        self.must("capabilities", _PRCTL, _PR_CAPBSET_DROP, "rsi", 0, 0, 0)
        self.add("rbx", 1)
        self.jump("capability")
        self.label("dropped")

    def _reset_signals(self) -> None:
        self.move("rbx", 1)
        self.label("signal")
        self.syscall(_SIGACTION, "rbx", self._zeroes, 0, 8)  # SIGKILL and SIGSTOP refuse it
        self.add("rbx", 1)
        self.compare("rbx", 65)
        self.jump("signal", "different")
        self.must("signals", _SIGPROCMASK, signal.SIG_SETMASK, self._zeroes, 0, 8)

    def execute(self) -> None:
        """Execute the first candidate that can be; 127 if there is none at all, 126 if none can be executed."""
        launch = self._launch
        argv = self.strings(launch.argv)
        environment = self.strings([f"{name}={value}" for name, value in launch.environment.items()])
        if launch.seccomp:
            filters = self.data(launch.seccomp)
            program = self.data(struct.pack("<HxxxxxxQ", len(launch.seccomp) // 8, filters))
            self.must("seccomp", _SECCOMP, 1, 0, program)
        self.move("rbx", 0)
        for path in _candidates(launch):
            missing = self.fresh("missing")
            self.syscall(_EXECVE, self.text(path), argv, environment)
            for number in (errno.ENOENT, errno.ENOTDIR):
                self.compare("rax", -number)
                self.jump(missing, "equal")
            self.move("rbx", 1)
            self.label(missing)
        self.compare("rbx", 0)
        self.jump("refused", "different")
        self.fail(f"command {launch.argv[0]!r} was not found in the image", 127)
        self.label("refused")
        self.fail(f"command {launch.argv[0]!r} can't be executed", 126)


def _candidates(launch: Launch) -> list[str]:
    """Where the command may be: execvp(3)'s search in the app's own PATH."""
    command = launch.argv[0]
    if "/" in command:
        return [command]
    folders = launch.environment.get("PATH", DEFAULT_PATH).split(":")
    return [f"{folder.rstrip('/') or '.' if folder != '/' else ''}/{command}" for folder in folders]
