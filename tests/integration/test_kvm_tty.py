"""Terminals in virtual machines, at a real one: keys, sizes, ^C, exit codes; for an app and for `enter`."""

from __future__ import annotations

import termios
from collections.abc import Iterator

import pytest

from support import machines
from support.command import Podium
from support.rest import rested
from support.terminal import Screen

SHOW = "trap 'stty size' WINCH; trap 'echo int; exit 9' INT; tty; read line; echo got-$line; stty size; echo ready;"
WAIT = "while :; do sleep 0.05; done"


@pytest.fixture
def screens(podium: Podium) -> Iterator[list[Screen]]:
    made: list[Screen] = []
    yield made
    for each in made:
        each.close()


def _use(shown: Screen) -> None:
    shown.send("key\n")
    shown.until("key\r\n")  # as the guest's terminal echoes it
    shown.until("got-key\r\n30 100\r\n")
    shown.until("ready")
    shown.resize(40, 120)
    shown.until("40 120")
    shown.send("\x03")
    shown.until("int")
    assert shown.end() == 9
    assert termios.tcgetattr(shown.slave) == shown.settings


def test_an_app_and_a_command_have_a_terminal(podium: Podium, busybox_oci: str, screens: list[Screen]) -> None:
    podium("image", "import", busybox_oci, "--name", "box")
    app = (
        "run",
        "--rm",
        "--tty",
        "--name",
        "vm",
        "--stage1",
        "kvm",
        "--net",
        "none",
        "box",
        "--",
        "sh",
        "-c",
        SHOW + WAIT,
    )
    first = Screen(podium.argv(*app), podium.environment(), 30, 100)
    screens.append(first)
    first.until("/dev/pts/0", machines.PATIENCE)
    second = Screen(podium.argv("enter", "--tty", "vm", "--", "sh", "-c", SHOW + WAIT), podium.environment(), 30, 100)
    screens.append(second)
    second.until("/dev/pts/1")
    _use(second)
    (uuid,) = podium.pods()
    rested(podium, uuid)
    _use(first)
    assert not podium.pods()
