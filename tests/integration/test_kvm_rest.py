"""The supervisor of a virtual machine becomes small, too, and what it does for its pod stays the same."""

from __future__ import annotations

import os
import signal
from typing import Any

import pytest

from support.command import Podium
from support.fly import until
from support.guest import CONSOLE, isolators, logged, shell, start
from support.rest import BUDGET, at_rest, held, rested

pytestmark = pytest.mark.usefixtures("host_guard")
# Counts; says what it is told; ends with 7 when it is asked to.
COUNTS = "trap 'echo told' USR1; trap 'exit 7' TERM; i=0; while :; do i=$((i+1)); echo $i; sleep 0.2; done"
LOUD = "trap '' USR1; mount -o remount,rw,bind /proc/sysrq-trigger; {}; echo h >/proc/sysrq-trigger; exec sleep 1000"
WAIT = "until [ -e /go ]; do sleep 0.1; done"


def test_the_life_of_a_machine_at_rest(box: Podium, test_dir: str, busybox_rootfs: str) -> None:
    """Logs, console, enter, an event handler, signals, restarts and stop: by one process that holds little."""
    handlers = [{"name": "post-stop", "exec": ["/bin/sh", "-c", "echo after"]}]
    isolators(box, test_dir, "handled", busybox_rootfs, eventHandlers=handlers)
    uuid = start(
        box,
        (
            shell("counts", COUNTS),
            shell("loud", LOUD.format(WAIT), "--caps-retain", "CAP_SYS_ADMIN"),
            shell("handled", f"echo before; {WAIT}", image="handled"),
            shell("again", f"trap '' USR1; echo begins; {WAIT}; rm /go; exit 4", "--restart", "on-failure"),
        ),
    )
    pid = rested(box, uuid)
    own = [pid, *(app["pid"] for app in _apps(box, uuid).values())]
    assert sum(map(held, own)) <= BUDGET

    last = _last(box, uuid)
    until(lambda: _last(box, uuid) >= last + 3, "the log goes on")
    _go(box, uuid, "loud")
    until(lambda: "sysrq: HELP" in box.out(*CONSOLE, uuid), "the console goes on")
    assert at_rest(pid)

    _go(box, uuid, "handled")
    logged(box, uuid, "handled: after")
    until(lambda: _apps(box, uuid)["handled"]["exit_code"] == 0, "it has ended")
    assert rested(box, uuid) == pid

    _go(box, uuid, "again")
    until(lambda: _restarts(box, uuid) == 1, "it runs again")
    assert rested(box, uuid) == pid
    os.kill(_apps(box, uuid)["again"]["pid"], signal.SIGKILL)  # what stands for it, so it is ended
    until(lambda: _restarts(box, uuid) == 2, "it runs again")
    assert rested(box, uuid) == pid

    os.kill(pid, signal.SIGUSR1)  # which it hands on
    logged(box, uuid, "counts: told")
    box("stop", uuid)
    ended = {name: (app["exit_code"], app["signal"]) for name, app in _apps(box, uuid).items()}
    assert ended == {"counts": (7, None), "loud": (143, "SIGTERM"), "handled": (0, None), "again": (143, "SIGTERM")}
    lines = [line.split() for line in box.out("logs", uuid).splitlines()]
    counted = [int(words[1]) for words in lines if words[0] == "counts:" and words[1].isdecimal()]
    assert counted == list(range(1, len(counted) + 1)), "no line was lost"
    assert lines.count(["again:", "begins"]) == 3
    box("gc", "--grace-period", "0s")
    assert not box.pods()


def _apps(box: Podium, uuid: str) -> dict[str, Any]:
    return {app["name"]: app for app in box.json("status", uuid)["pod"]["apps"]}


def _restarts(box: Podium, uuid: str) -> Any:
    app = _apps(box, uuid)["again"]
    return app["restarts"] if app["state"] == "running" else None


def _go(box: Podium, uuid: str, app: str) -> None:
    box("enter", "--app", app, uuid, "--", "touch", "/go")


def _last(box: Podium, uuid: str) -> int:
    numbers = [line.split()[1] for line in box.out("logs", uuid).splitlines() if line.startswith("counts: ")]
    return int(numbers[-1]) if numbers else 0
