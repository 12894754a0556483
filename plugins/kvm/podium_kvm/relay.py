"""What stands on the host for a command in the guest: a process that copies streams, hands signals on, and ends alike.

So the supervisor reaps, restarts and signals the apps of a virtual machine as it does those of any other sandbox. A
machine has up to eight, for months, so the process is none of Python's, of 8 MiB, but a program like those that
program.py makes for the guest, of 12 KiB. It knows nothing but what `guest/init` says on the command's four ports, and
leaves the line that tells of the command's end in a file for whoever waits for it.
"""

from __future__ import annotations

import _socket
import errno
import fcntl
import os
import resource
import select
import struct
import termios

from podium.linux import cgroup, procs, syscalls
from podium.linux.signals import FORWARDED, signal
from podium.types import Record
from podium_kvm.assembler import EXIT, WRITE, Assembler

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import NoReturn

HEARD = (*FORWARDED, signal.SIGWINCH)
GONE = b"gone\n"  # what it leaves if the machine has ended first
_NAME = "podium-relay"
_CHUNK = 1 << 15
_LONGEST = 63  # bytes of a line of the guest's, without its end
_PATIENCE = 20  # milliseconds
_END_TIMEOUT = 10.0  # seconds
_STDIN, _STDOUT, _STDERR, _CTL, _IN, _OUT, _ERR, _NOTE = range(8)  # its descriptors

# asm/unistd_64.h
_READ, _POLL, _SIGACTION, _SIGPROCMASK, _IOCTL, _PWRITE = 0, 7, 13, 14, 16, 18
_GETPID, _SENDTO, _RECVFROM, _SHUTDOWN, _KILL, _PRCTL, _SIGNALFD = 39, 44, 45, 48, 62, 157, 289
_PR_SET_NAME = 15
_SLOTS = ("signals", "out", "err", "keys", "ctl")  # of poll(2): what is in the order in which it is served


class Command(Record):
    """A command that is to be started in the guest.

    Attributes:
        app: name of its app.
        ends: the host's ends of its ports, as `guest/init` serves them.
        program: from `program.build`.
        stdio: what its streams are connected to.
        note: an empty file.
        terminal: it gets a terminal in the guest, of the size of that on its standard input, which is raw: the guest's
            makes lines and signals of the keys.
        after: the relay of the app's command before was killed, so that the guest has yet to tell of that one's end.
    """

    app: str
    ends: Mapping[str, _socket.socket]
    program: bytes
    stdio: tuple[int, int, int]
    note: int
    terminal: bool = False
    after: bool = False


def start(command: Command, group: str = "") -> int:
    """Start a command in the guest; returns the pid of what stands for it.

    Args:
        command: what to start.
        group: the relay's cgroup, if it is not the caller's; such a one gets the terminal for its own, too.
    """
    parent = os.getpid()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, HEARD)  # the relay gets what comes until it listens
    try:
        pid = cgroup.fork(group) if group else os.fork()
    finally:
        if os.getpid() == parent:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
    if pid:
        return pid
    try:
        if group:
            cgroup.enter(group)
        os.setsid()
        procs.die_with_parent(signal.SIGKILL, parent)
        if group and command.terminal:
            fcntl.ioctl(command.stdio[0], termios.TIOCSCTTY, 0)  # so it is told of changes of the size
        _become(command)
    except (BrokenPipeError, ConnectionResetError):
        os.pwrite(command.note, GONE, 0)
    except BaseException as e:
        os.write(2, f"podium: {command.app}: {type(e).__name__}: {e}\n".encode())
    finally:
        os._exit(125)


def _become(command: Command) -> NoReturn:
    if command.after:
        _let_end(command)
    first = b"run %d\n" % len(command.program)
    if command.terminal:
        window = fcntl.ioctl(command.stdio[0], termios.TIOCGWINSZ, bytes(8))
        first = b"terminal %d %d %d\n" % (len(command.program), *struct.unpack("HHxxxx", window))
    command.ends["ctl"].sendall(first + command.program)
    made = fcntl.fcntl(os.memfd_create(_NAME), fcntl.F_DUPFD_CLOEXEC, _NOTE + 1)  # above all that are placed
    with open(made, "wb", closefd=False) as f:
        f.write(_Relay().elf())
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # it may end by a signal for which others leave one
    placed = [*command.stdio, *(command.ends[name].fileno() for name in ("ctl", "in", "out", "err")), command.note]
    copies = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, len(placed)) for fd in placed]
    for target, copy in enumerate(copies):
        os.dup2(copy, target)
    syscalls.close_range(len(placed), syscalls.CLOSE_RANGE_CLOEXEC)
    os.execve(made, [_NAME, command.app], {})


def _let_end(command: Command) -> None:
    """Copy what the command before has printed, until the guest tells of its end."""
    ctl, copied = command.ends["ctl"], {command.ends["out"]: command.stdio[1], command.ends["err"]: command.stdio[2]}
    told, left = b"", _END_TIMEOUT
    while ready := select.select([ctl, *copied], [], [], left)[0]:  # else the relay has heard of it
        for end in ready:
            data = end.recv(_CHUNK)
            if not data:
                raise ConnectionResetError
            if end is ctl:
                told += data
            else:
                try:
                    os.write(copied[end], data)
                except OSError:
                    pass  # a reader that has gone
        if any(line.startswith(b"exited ") for line in told.split(b"\n")[:-1]):
            left = 0.0


class _Relay(Assembler):
    """The program.

    r14 is the patience of poll(2), rbp counts the keys that the guest has yet to take, which are at r13, and rbx the
    bytes of a line that the guest has begun.
    """

    def __init__(self) -> None:
        super().__init__()
        self._name = self.text(_NAME)
        self._heard = self.data(struct.pack("<Q", sum(1 << number - 1 for number in HEARD)))
        fds = {"signals": -1, "out": _OUT, "err": _ERR, "keys": _STDIN, "ctl": _CTL}
        self._polled = self.data(b"".join(struct.pack("<ihh", fds[slot], select.POLLIN, 0) for slot in _SLOTS))
        self._signals = [b"signal %2d\n" % number for number in range(signal.NSIG)]
        self._table = self.data(b"".join(self._signals))
        self._resize = b"resize 00000 00000\n"
        self._size = self.data(self._resize)
        self._gone = self.data(GONE)
        self._zeroes = self.data(bytes(32))
        self._word = self.data(bytes(8))
        self._line = self.data(bytes(_LONGEST + 1))
        self._told = self.data(bytes(128))  # signalfd_siginfo
        self._buffer, self._keys = self.room(_CHUNK), self.room(_CHUNK)
        self._main()

    def _main(self) -> None:
        self.syscall(_PRCTL, _PR_SET_NAME, self._name)
        self.syscall(_SIGNALFD, -1, self._heard, 8, 0)
        self.store(self._polled, "rax", 4)
        self._wait_for_ever()
        self.move("rbp", 0)
        self.move("rbx", 0)
        self.label("loop")
        self.syscall(_POLL, self._polled, len(_SLOTS), "r14")
        self.compare("rax", 0)
        self.jump("loop", "negative")  # it was stopped, and went on (signal(7))
        self._end_input()
        for slot in _SLOTS:
            after = self.fresh("after")
            self.load("rax", self._polled + 8 * _SLOTS.index(slot) + 6, 2)
            self.compare("rax", 0)
            self.jump(after, "equal")
            if slot == "signals":
                self._hand_on(after)
            elif slot == "keys":
                self._take_keys(after)
            elif slot == "ctl":
                self._listen("loop")
                self._end()
            else:
                self._copy(_OUT if slot == "out" else _ERR, after, "gone")
            self.label(after)
        self.jump("loop")
        self.label("gone")
        self.syscall(_PWRITE, _NOTE, self._gone, len(GONE), 0)
        self.syscall(EXIT, 125)

    def _wait_for_ever(self) -> None:
        self.move("r14", -1)

    def _end_input(self) -> None:
        """Close the port once QEMU has read everything: what is left when it hears of the end is lost."""
        self.compare("r14", 0)
        self.jump("told", "negative")  # the input has not ended, or that was told
        self.move("r14", _PATIENCE)
        self.syscall(_IOCTL, _IN, termios.TIOCOUTQ, self._word)
        self.load("rax", self._word, 4)
        self.compare("rax", 0)
        self.jump("told", "different")
        self.syscall(_SHUTDOWN, _IN, _socket.SHUT_RDWR)
        self._wait_for_ever()
        self.label("told")

    def _hand_on(self, after: str) -> None:
        """A signal, or the new size of the terminal."""
        self.load("rax", self._polled, 4)
        self.syscall(_READ, "rax", self._told, 128)
        self.load("r12", self._told, 4)
        self.compare("r12", signal.SIGWINCH)
        self.jump("resize", "equal")
        self.times("r12", len(self._signals[0]))
        self.add("r12", self._table)
        self.syscall(WRITE, _CTL, "r12", len(self._signals[0]))
        self.jump(after)
        self.label("resize")
        self.syscall(_IOCTL, _STDIN, termios.TIOCGWINSZ, self._word)
        self.compare("rax", 0)
        self.jump(after, "different")  # no terminal
        for place, last in ((self._word, 11), (self._word + 2, 17)):
            self._digits(place, self._size + last)
        self.syscall(WRITE, _CTL, self._size, len(self._resize))

    def _digits(self, place: int, last: int) -> None:
        """Write the two bytes at an address as five decimal digits, of which the last is to be at `last`."""
        digit = self.fresh("digit")
        self.load("rax", place, 2)
        self.move("rdi", last)
        self.move("rcx", 10)
        self.move("r12", 5)
        self.label(digit)
        self.divide("rcx")
        self.add("rdx", ord("0"))
        self.store("rdi", "rdx", 1)
        self.subtract("rdi", 1)
        self.subtract("r12", 1)
        self.jump(digit, "positive")

    def _copy(self, source: int, nothing: str, gone: str) -> None:
        """Copy what is there. A reader that has gone ends nothing but the copying."""
        more, copied = self.fresh("more"), self.fresh("copied")
        self.syscall(_RECVFROM, source, self._buffer, _CHUNK, _socket.MSG_DONTWAIT, 0, 0)
        self.compare("rax", -errno.EAGAIN)
        self.jump(nothing, "equal")
        self.compare("rax", 0)
        self.jump(gone, "not positive")
        self.move("r12", "rax")
        self.move("r15", self._buffer)
        self.label(more)
        self.syscall(WRITE, {_OUT: _STDOUT, _ERR: _STDERR}[source], "r15", "r12")
        self.compare("rax", 0)
        self.jump(copied, "not positive")
        self.add("r15", "rax")
        self.subtract("r12", "rax")
        self.jump(more, "positive")
        self.label(copied)

    def _take_keys(self, after: str) -> None:
        """Read input, and send it on as the guest takes it: it may wait for us to take what it prints."""
        self.compare("rbp", 0)
        self.jump("send", "different")
        self.syscall(_READ, _STDIN, self._keys, _CHUNK)
        self.move("rbp", "rax")
        self.move("r13", self._keys)
        self.compare("rax", 0)
        self.jump("send", "positive")
        self.move("r14", 0)
        self.label("deaf")  # an earlier step of the app has had the end of the input
        self._poll_keys(-1, 0)
        self.move("rbp", 0)
        self.jump(after)
        self.label("send")
        self.syscall(_SENDTO, _IN, "r13", "rbp", _socket.MSG_DONTWAIT | _socket.MSG_NOSIGNAL, 0, 0)
        self.compare("rax", -errno.EAGAIN)
        self.jump("full", "equal")
        self.compare("rax", 0)
        self.jump("deaf", "negative")
        self.add("r13", "rax")
        self.subtract("rbp", "rax")
        self.jump("full", "different")
        self._poll_keys(_STDIN, select.POLLIN)
        self.jump(after)
        self.label("full")
        self._poll_keys(_IN, select.POLLOUT)

    def _poll_keys(self, fd: int, events: int) -> None:
        self.move("rax", int.from_bytes(struct.pack("<ihh", fd, events, 0), "little"))
        self.store(self._polled + 8 * _SLOTS.index("keys"), "rax")

    def _listen(self, begun: str) -> None:
        """Take a byte of what the guest says; goes to `begun` unless it has told how the app ended."""
        self.syscall(_RECVFROM, _CTL, self._word, 1, _socket.MSG_DONTWAIT, 0, 0)
        self.compare("rax", -errno.EAGAIN)
        self.jump(begun, "equal")
        self.compare("rax", 0)
        self.jump("gone", "not positive")
        self.load("rax", self._word, 1)
        self.move("rdi", self._line)
        self.add("rdi", "rbx")
        self.store("rdi", "rax", 1)
        self.compare("rax", ord("\n"))
        self.jump("line", "equal")
        self.compare("rbx", _LONGEST)
        self.jump(begun, "equal")
        self.add("rbx", 1)
        self.jump(begun)
        self.label("line")
        self.move("r12", "rbx")
        self.move("rbx", 0)
        self.load("rax", self._line, 1)
        self.compare("rax", ord("e"))  # exited STATUS …
        self.jump(begun, "different")

    def _end(self) -> None:
        """End as the app has."""
        self.syscall(_PWRITE, _NOTE, self._line, "r12", 0)
        self.move("r14", 0)
        self.move("rdi", self._line + len("exited "))
        self.label("status")
        self.load("rax", "rdi", 1)
        self.subtract("rax", ord("0"))
        self.compare("rax", 9)
        self.jump("rest", "above")
        self.times("r14", 10)
        self.add("r14", "rax")
        self.add("rdi", 1)
        self.jump("status")
        self.label("rest")  # the guest says so only once the host had taken all that was printed
        for source in (_OUT, _ERR):
            more, nothing = self.fresh("more"), self.fresh("nothing")
            self.label(more)
            self._copy(source, nothing, nothing)
            self.jump(more)
            self.label(nothing)
        self.move("r12", "r14")
        self.mask("r12", 0x7F)
        self.compare("r12", 0)
        self.jump("signalled", "different")
        self.shift("r14", 8)
        self.mask("r14", 0xFF)
        self.syscall(EXIT, "r14")
        self.label("signalled")
        self.syscall(_SIGACTION, "r12", self._zeroes, 0, 8)
        self.move("rcx", "r12")
        self.subtract("rcx", 1)
        self.move("rax", 1)
        self.shift_left("rax")
        self.store(self._word, "rax")
        self.syscall(_SIGPROCMASK, signal.SIG_UNBLOCK, self._word, 0, 8)
        self.syscall(_GETPID)
        self.move("r15", "rax")
        self.syscall(_KILL, "r15", "r12")
        self.syscall(EXIT, 125)
