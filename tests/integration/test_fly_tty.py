"""A terminal for an app under fly, at a real one; what the sandbox has a part in, under nspawn too."""

from __future__ import annotations

import os
import signal
import termios
from collections.abc import Callable, Iterator

import pytest

from podium.linux import cgroup
from support.fly import Fly, until
from support.terminal import Screen

Open = Callable[..., Screen]
KIND = os.environ.get("TERM", "xterm")


@pytest.fixture
def screen(fly: Fly) -> Iterator[Open]:
    """Words of podium → it runs at a terminal."""
    made: list[Screen] = []

    def start(*args: str, **size: int) -> Screen:
        made.append(Screen(fly.podium.argv(*args), fly.podium.environment(), **size))
        return made[-1]

    yield start
    for each in made:
        each.close()


def _run(fly: Fly, screen: Open, command: str, **size: int) -> Screen:
    return screen(*fly.argv("run", command, pod=("--rm", "--tty")), **size)


def test_the_app_has_a_terminal_of_its_own(either: Fly, screen: Open) -> None:
    script = "test -t 0 && test -t 1 && test -t 2 && tty; exec 3<>/dev/tty && echo control of $TERM; exit 7"
    shown = _run(either, screen, script)
    shown.until(f"control of {KIND}\r\n")
    assert shown.end() == 7
    assert termios.tcgetattr(shown.slave) == shown.settings


def test_keys_reach_the_app_and_its_output_comes_back(fly: Fly, screen: Open) -> None:
    shown = _run(fly, screen, 'read line; echo "got <$line>"')
    shown.send("some keys\n")
    shown.until("got <some keys>\r\n")
    assert shown.end() == 0


def test_end_of_file_ends_a_reader(fly: Fly, screen: Open) -> None:
    shown = _run(fly, screen, "echo ready; cat; echo done")
    shown.until("ready")
    shown.send("x\n\x04")
    shown.until("done")
    assert shown.end() == 0


def test_the_window_size_is_the_callers_and_follows_it(either: Fly, screen: Open) -> None:
    script = "trap 'stty size' WINCH; stty size; while :; do sleep 0.05; done"
    shown = _run(either, screen, script, rows=33, columns=101)
    shown.until("33 101")
    shown.resize(44, 99)
    shown.until("44 99")
    shown.send("\x03")
    assert shown.end() == 130


def test_interrupt_key_goes_to_the_app_alone(fly: Fly, screen: Open) -> None:
    shown = _run(fly, screen, "trap 'echo caught; exit 5' INT; echo ready; while :; do sleep 0.02; done")
    shown.until("ready")
    shown.send("\x03")
    shown.until("caught")
    assert shown.end() == 5
    assert termios.tcgetattr(shown.slave) == shown.settings


def test_job_control(either: Fly, screen: Open) -> None:
    shown = screen("run", "--rm", *either.stage1, "--tty", "box", "--environment", "PS1=% ", "--", "-i")
    shown.until("% ")
    shown.send("sleep 77\n")
    until(lambda: _runs(either, b"77"), "sleep runs")
    shown.send("\x1a")
    shown.until("Stopped")
    shown.send("jobs; kill %1; fg %1\n")
    shown.until("% ")
    shown.send("exit 9\n")
    assert shown.end() == 9
    assert "job control" not in shown.shown


def _runs(fly: Fly, argument: bytes) -> bool:
    """Whether a process of a pod has this last argument."""
    for uuid in fly.podium.pods():
        for pid in cgroup.procs(fly.status(uuid)["cgroup"] or ""):
            try:
                with open(f"/proc/{pid}/cmdline", "rb") as f:
                    if f.read().split(b"\0")[-2:-1] == [argument]:
                        return True
            except OSError:
                continue
    return False


def test_much_output_is_whole(fly: Fly, screen: Open) -> None:
    shown = _run(fly, screen, "seq 1 20000; echo end-of-it")
    text = shown.until("end-of-it")
    assert shown.end() == 0
    assert text.split() == [*(str(n) for n in range(1, 20001)), "end-of-it"]


def test_a_background_process_does_not_hold_the_end_up(fly: Fly, screen: Open) -> None:
    assert _run(fly, screen, "sleep 1000 & exit 3").end() == 3


def test_a_terminal_that_is_closed_ends_the_pod(fly: Fly, screen: Open) -> None:
    shown = screen(*fly.argv("run", "echo ready; exec sleep 1000", pod=("--tty", "--name", "x")))
    shown.until("ready")
    os.close(shown.master)
    os.close(shown.slave)
    shown.process.wait(timeout=20)
    assert fly.ended("x")["state"] == "exited"
    shown.master, shown.slave = os.openpty()


def test_a_killed_client_gives_the_terminal_back(fly: Fly, screen: Open) -> None:
    shown = screen(*fly.argv("run", "echo ready; exec sleep 1000", pod=("--tty", "--name", "x")))
    shown.until("ready")
    shown.process.kill()
    shown.process.wait()
    fly.ended("x")
    until(lambda: termios.tcgetattr(shown.slave) == shown.settings, "the terminal is as it was")


def test_a_killed_supervisor_gives_the_terminal_back(either: Fly, screen: Open) -> None:
    shown = screen(*either.argv("run", "echo ready; exec sleep 1000", pod=("--tty", "--name", "x")))
    shown.until("ready")
    until(lambda: either.status("x")["pid"], "the supervisor is known")
    os.kill(either.status("x")["pid"], signal.SIGKILL)
    assert shown.end() == 125
    assert termios.tcgetattr(shown.slave) == shown.settings
    either.podium("gc", "--grace-period", "0s")


def test_tty_needs_a_terminal_and_a_foreground(fly: Fly) -> None:
    command = fly.argv("run", "true", pod=("--tty",))
    assert "terminal" in fly.podium(*command, check=125).stderr
    command = fly.argv("run", "true", pod=("--tty", "--detach"))
    assert "--detach" in fly.podium(*command, check=125).stderr
    assert not fly.podium.pods()


def test_enter_with_a_terminal(either: Fly, screen: Open) -> None:
    uuid = either.start("exec sleep 1000")
    shown = screen(
        *("enter", "--tty", uuid, "--", "sh", "-c", "tty; stty size; read x; echo got $x in $TERM; exit 6"),
        rows=20,
        columns=60,
    )
    shown.until("20 60")
    shown.send("keys\n")
    shown.until(f"got keys in {KIND}\r\n")
    assert shown.end() == 6
    assert termios.tcgetattr(shown.slave) == shown.settings
    assert either.app(uuid)["state"] == "running"


def test_enter_with_a_terminal_runs_a_shell_with_job_control(either: Fly, screen: Open) -> None:
    uuid = either.start("exec sleep 1000", "--environment", "PS1=% ")
    shown = screen("enter", "--tty", uuid)
    shown.until("% ")
    shown.send("sleep 77\n")
    until(lambda: _runs(either, b"77"), "sleep runs")
    shown.send("\x03")
    shown.until("% ")
    shown.send("exit 4\n")
    assert shown.end() == 4
    assert "job control" not in shown.shown


@pytest.mark.parametrize("how", ["killed", "closed"])
def test_enter_ends_with_its_caller(fly: Fly, screen: Open, how: str) -> None:
    uuid = fly.start("exec sleep 1000")
    shown = screen("enter", "--tty", uuid, "--", "sh", "-c", "trap '' HUP; sleep 77; true")
    until(lambda: _runs(fly, b"77"), "sleep runs")
    if how == "killed":
        shown.process.kill()
        shown.process.wait()
        until(lambda: termios.tcgetattr(shown.slave) == shown.settings, "the terminal is as it was")
    else:
        os.close(shown.master)
        os.close(shown.slave)
        shown.process.kill()
        shown.process.wait()
        shown.master, shown.slave = os.openpty()
    until(lambda: not _runs(fly, b"trap '' HUP; sleep 77; true"), "the command has ended")
    assert fly.app(uuid)["state"] == "running"
