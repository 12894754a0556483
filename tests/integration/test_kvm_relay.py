"""What stands for an app of a virtual machine, with a guest that the test plays on its four ports."""

from __future__ import annotations

import fcntl
import os
import signal
import socket
import struct
import termios
import threading
import tty
from collections.abc import Iterator
from contextlib import suppress

import pytest

from podium_kvm import relay
from podium_kvm.machine import STREAMS
from support.fly import PATIENCE, until
from support.rest import held

PROGRAM = b"\x7fELF, say"
SMALL = 0.2  # MiB


class Guest:
    """The guest's side of a relay that runs.

    Attributes:
        pid: of the relay.
        ports: what it has said on them is to be read here.
    """

    def __init__(self, stdio: tuple[int, int, int], *, terminal: bool = False, before: bytes = b"") -> None:
        """With `before`, an earlier relay was killed, and this is what the guest says of that one's command."""
        pairs = {name: socket.socketpair() for name in STREAMS}
        self.ports = {name: ours for name, (ours, _) in pairs.items()}
        for port in self.ports.values():
            port.settimeout(PATIENCE)
        self._note = os.memfd_create("note")
        theirs = {name: end for name, (_, end) in pairs.items()}
        self.ports["ctl"].sendall(before)
        command = relay.Command(
            app="box",
            ends=theirs,
            program=PROGRAM,
            stdio=stdio,
            note=self._note,
            terminal=terminal,
            after=bool(before),
        )
        self.pid = relay.start(command)
        for _, end in pairs.values():
            end.close()

    def said(self, text: bytes) -> None:
        """Wait until the relay has said this on its port for commands."""
        got = b""
        while len(got) < len(text):
            got += self.ports["ctl"].recv(len(text) - len(got))
        assert got == text

    def ends(self, *parts: bytes) -> tuple[int, bytes]:
        """Say something on it; the relay's wait status and its note then."""
        for part in parts:
            with suppress(BrokenPipeError):  # it may have ended without waiting for the rest
                self.ports["ctl"].sendall(part)
        pid, self.pid = self.pid, 0
        return os.waitpid(pid, 0)[1], os.pread(self._note, 100, 0)

    def close(self) -> None:
        """End it."""
        if self.pid:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
        for port in self.ports.values():
            port.close()
        os.close(self._note)


@pytest.fixture
def guests() -> Iterator[list[Guest]]:
    made: list[Guest] = []
    yield made
    for guest in made:
        guest.close()


@pytest.fixture
def quiet(guests: list[Guest]) -> Guest:
    """One whose app has no streams."""
    null = os.open(os.devnull, os.O_RDWR)
    guests.append(Guest((null, null, null)))
    os.close(null)
    guests[0].said(b"run %d\n%b" % (len(PROGRAM), PROGRAM))
    return guests[0]


def test_more_input_than_anything_between_can_hold_comes_back(guests: list[Guest]) -> None:
    """The guest prints what it reads, and reads no more before that was taken."""
    (keys, typed), (shown, out), (complained, err) = os.pipe(), os.pipe(), os.pipe()
    guest = Guest((keys, out, err))
    guests.append(guest)
    for fd in (keys, out, err):
        os.close(fd)
    data = os.urandom(3 << 20)

    def write() -> None:
        with open(typed, "wb") as f:
            f.write(data)

    def echo() -> None:
        while got := guest.ports["in"].recv(1 << 16):
            guest.ports["out"].sendall(got)
        guest.ports["err"].sendall(b"no more\n")
        guest.ports["ctl"].sendall(b"ready\nexited 768 no\n")

    threads = [threading.Thread(target=work) for work in (write, echo)]
    for thread in threads:
        thread.start()
    with open(shown, "rb") as f:
        assert f.read() == data
    with open(complained, "rb") as f:
        assert f.read() == b"no more\n"
    for thread in threads:
        thread.join()
    assert guest.ends() == (3 << 8, b"exited 768 no")


def test_signals_are_handed_on_and_it_is_small(quiet: Guest) -> None:
    for number in relay.HEARD[:-1]:
        os.kill(quiet.pid, number)
        quiet.said(b"signal %2d\n" % number)
    with open(f"/proc/{quiet.pid}/comm", encoding="ascii") as f:
        assert f.read() == "podium-relay\n"
    assert held(quiet.pid) <= SMALL
    os.kill(quiet.pid, signal.SIGSTOP)
    os.kill(quiet.pid, signal.SIGCONT)
    assert quiet.ends(b"exited 0 no\n") == (0, b"exited 0 no")


@pytest.mark.parametrize("status", [0, 1 << 8, 255 << 8, *map(int, (signal.SIGKILL, signal.SIGTERM, signal.SIGPIPE))])
def test_it_ends_as_the_app_has(quiet: Guest, status: int) -> None:
    line = b"exited %d oom" % status
    assert quiet.ends(b"ready\nexi", line[3:], b"\n") == (status, line)


def test_a_signal_that_leaves_a_core_leaves_none_of_the_relay(quiet: Guest) -> None:
    assert quiet.ends(b"exited %d no\n" % (signal.SIGSEGV | 0x80))[0] == signal.SIGSEGV


def test_a_machine_that_ends_first(quiet: Guest) -> None:
    for port in quiet.ports.values():
        port.close()
    assert quiet.ends() == (125 << 8, relay.GONE)


@pytest.mark.parametrize("line", [b"x" * 1000, b"exited\n", b"e\n", b"\n" * 100])
def test_a_guest_that_says_something_else(quiet: Guest, line: bytes) -> None:
    """A line too long, or one without a number, ends nothing but the relay."""
    status, _ = quiet.ends(line, b"\nexited 1792 no\n")
    assert os.WIFEXITED(status)


def test_readers_that_have_gone_end_nothing(guests: list[Guest]) -> None:
    (gone, out), null = os.pipe(), os.open(os.devnull, os.O_RDWR)
    guest = Guest((null, out, null))
    guests.append(guest)
    for fd in (gone, out, null):
        os.close(fd)
    guest.ports["out"].sendall(b"nobody reads this")
    assert guest.ends(b"exited 256 no\n")[0] == 1 << 8


def test_the_end_of_a_command_whose_relay_was_killed_is_not_the_next_one_s(guests: list[Guest]) -> None:
    (shown, out), null = os.pipe(), os.open(os.devnull, os.O_RDWR)
    guest = Guest((null, out, null), before=b"ready\n")
    guests.append(guest)
    for fd in (out, null):
        os.close(fd)
    guest.ports["out"].sendall(b"printed before, ")
    guest.ports["ctl"].sendall(b"exited 9 no\n")
    guest.said(b"run %d\n%b" % (len(PROGRAM), PROGRAM))
    guest.ports["out"].sendall(b"and after\n")
    assert guest.ends(b"exited 0 no\n")[0] == 0
    with open(shown, "rb") as f:
        assert f.read() == b"printed before, and after\n"


def test_a_terminal_of_any_size(guests: list[Guest]) -> None:
    master, slave = os.openpty()
    try:
        tty.setraw(slave)
        fcntl.ioctl(master, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 100, 0, 0))
        guest = Guest((slave, slave, slave), terminal=True)
        guests.append(guest)
        guest.said(b"terminal %d 30 100\n%b" % (len(PROGRAM), PROGRAM))
        until(lambda: _comm(guest.pid) == "podium-relay", "the relay runs")
        fcntl.ioctl(master, termios.TIOCSWINSZ, struct.pack("HHHH", 7, 65535, 0, 0))
        os.kill(guest.pid, signal.SIGWINCH)
        guest.said(b"resize 00007 65535\n")
        os.write(master, b"\x03")
        assert guest.ports["in"].recv(10) == b"\x03"
        guest.ports["out"].sendall(b"shown\r\n")
        assert os.read(master, 100) == b"shown\r\n"
        assert guest.ends(b"exited 2304 no\n")[0] == 9 << 8
    finally:
        os.close(master)
        os.close(slave)


def _comm(pid: int) -> str:
    with open(f"/proc/{pid}/comm", encoding="ascii") as f:
        return f.read().rstrip("\n")
