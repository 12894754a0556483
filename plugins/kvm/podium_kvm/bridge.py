"""A process of the host that stands for a command in the guest: it copies the streams, hands signals on, ends alike.

So the supervisor reaps, restarts and signals the apps of a virtual machine as it does those of any other sandbox.
"""

from __future__ import annotations

import fcntl
import os
import resource
import select
import signal
import socket
import struct
import sys
import termios
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from podium.errors import Failed
from podium.linux.signals import FORWARDED

GONE = "the virtual machine ended before the command did"
_CHUNK = 1 << 16
_PATIENCE = 20  # milliseconds
_SIGNALS = (*FORWARDED, signal.SIGWINCH)


class Bridge:
    """The host's ends of a command's four ports, as `guest/init` serves them.

    Attributes:
        out_of_memory: something of the app was killed for its limit of memory.
    """

    def __init__(self, ends: dict[str, socket.socket]) -> None:
        self._ends = ends
        self._rest = b""
        self.out_of_memory = False
        self._screen: int | None = None
        self._ending = False  # the input's end is still to be told

    def run(
        self,
        program: bytes,
        stdio: tuple[int, int, int],
        wake: int,
        gone: Callable[[], bool],
        *,
        terminal: bool = False,
    ) -> int:
        """Run a program in the guest and serve it.

        Args:
            program: from `program.build`.
            stdio: what its streams are connected to.
            wake: reading end of a signal.set_wakeup_fd pipe.
            gone: whether whoever waits for the command has gone.
            terminal: the command gets a terminal in the guest, of the size of that on its standard input.

        Returns:
            Its wait status, as waitpid(2) gives it.

        Raises:
            Failed: the virtual machine ended first.
        """
        ctl, out, err = self._ends["ctl"], self._ends["out"], self._ends["err"]
        keys: int | None = stdio[0]
        try:
            if terminal:
                self._screen = stdio[0]
                ctl.sendall(b"terminal %d %d %d\n" % (len(program), *_size(stdio[0])) + program)
            else:
                ctl.sendall(b"run %d\n" % len(program) + program)
            while True:
                poll = select.poll()
                for fd in (ctl.fileno(), out.fileno(), err.fileno(), wake):
                    poll.register(fd, select.POLLIN)
                if keys is not None:
                    poll.register(keys, select.POLLIN)
                ready = {fd for fd, _ in poll.poll(_PATIENCE if self._ending else None)}
                if self._ending:
                    self._end_input()
                if wake in ready:
                    self._signals(os.read(wake, 4096), gone)
                if out.fileno() in ready:
                    _copy(out, stdio[1])
                if err.fileno() in ready:
                    _copy(err, stdio[2])
                if keys is not None and keys in ready:
                    keys = self._input(keys)
                if ctl.fileno() in ready:
                    status = self._answer(ctl)
                    if status is not None:
                        # The guest says so only once the host had taken all that was printed.
                        for end, fd in ((out, stdio[1]), (err, stdio[2])):
                            while _copy(end, fd):
                                pass
                        return status
        except (BrokenPipeError, ConnectionResetError):
            raise Failed(GONE) from None

    def _input(self, keys: int) -> int | None:
        try:
            data = os.read(keys, _CHUNK)
        except OSError:
            data = b""  # a terminal that hung up
        try:
            if data:
                self._ends["in"].sendall(data)
                return keys
            self._ending = True
            self._end_input()
        except OSError:
            pass  # an earlier step of the app has had the end of the input
        return None

    def _end_input(self) -> None:
        """Close the port once QEMU has read everything: what is left when it hears of the end is lost."""
        unread = bytearray(4)
        fcntl.ioctl(self._ends["in"], termios.TIOCOUTQ, unread)
        if not int.from_bytes(unread, sys.byteorder):
            self._ending = False
            with suppress(OSError):
                self._ends["in"].shutdown(socket.SHUT_RDWR)

    def _signals(self, numbers: bytes, gone: Callable[[], bool]) -> None:
        for number in numbers:
            if number in FORWARDED:
                sent = signal.SIGKILL if gone() else number
                self._ends["ctl"].sendall(b"signal %d\n" % sent)
            elif number == signal.SIGWINCH and self._screen is not None:
                self._ends["ctl"].sendall(b"resize %d %d\n" % _size(self._screen))

    def _answer(self, ctl: socket.socket) -> int | None:
        data = ctl.recv(_CHUNK)
        if not data:
            raise ConnectionResetError
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            words = line.split()
            if words[:1] == [b"exited"] and len(words) == 3 and words[1].isdigit():
                self.out_of_memory = words[2] == b"oom"
                return int(words[1])
        return None


@contextmanager
def raw(fd: int) -> Iterator[None]:
    """A terminal that hands every key through: the guest's own makes lines and signals of them."""
    import tty

    saved = termios.tcgetattr(fd)
    tty.setraw(fd, termios.TCSANOW)
    try:
        yield
    finally:
        with suppress(termios.error):  # it was closed
            termios.tcsetattr(fd, termios.TCSADRAIN, saved)


def _size(fd: int) -> tuple[int, int]:
    """Rows and columns of a terminal; 0 where it has none."""
    try:
        rows, columns, _, _ = struct.unpack("HHHH", fcntl.ioctl(fd, termios.TIOCGWINSZ, bytes(8)))
    except OSError:
        return 0, 0
    return rows, columns


def _copy(end: socket.socket, fd: int) -> bool:
    """Copy what is there; False when there is nothing. A reader that has gone ends nothing but the copying."""
    try:
        data = end.recv(_CHUNK, socket.MSG_DONTWAIT)
    except BlockingIOError:
        return False
    if not data:
        raise ConnectionResetError
    try:
        while data:
            data = data[os.write(fd, data) :]
    except OSError:
        pass
    return True


def listen() -> int:
    """Make this process hear the signals that are handed on; returns the descriptor that tells of them."""
    wake, writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    for number in _SIGNALS:
        signal.signal(number, lambda *_: None)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
    return wake


def end_like(status: int) -> None:
    """End this process as the command has ended. Returns only if a signal did not end it."""
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        if number != signal.SIGKILL:
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {number})
        os.kill(os.getpid(), number)
    os._exit(os.waitstatus_to_exitcode(status) & 0xFF)
