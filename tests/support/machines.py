"""Virtual machines that are started, looked at and killed: who works for one, and what is known of it."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from typing import Any

from podium.linux import cgroup
from support.command import Podium

PATIENCE = 60.0  # seconds; a boot takes some under emulation, and more on a busy machine
# With all that a machine can have: a network, a volume, an app that has ended and one that goes on.
POD = (
    *("run", "--detach", "--stage1", "kvm", "--net", "default", "--volume", "e,kind=empty"),
    *("box", "--name", "a", "--mount", "volume=e,target=/e", "--", "true"),
    *("---", "box", "--name", "b", "--", "sleep", "1000"),
)
HELPERS = {"qemu": "qemu-system-x86", "virtiofsd": "virtiofsd", "relay": "podium-relay"}


def until(done: Callable[[], bool], what: str) -> None:
    """Wait for something.

    Raises:
        AssertionError: it did not come.
    """
    deadline = time.monotonic() + PATIENCE
    while not done():
        assert time.monotonic() < deadline, f"not within {PATIENCE:.0f} s: {what}"
        time.sleep(0.02)


def status(podium: Podium, uuid: str) -> dict[str, Any]:
    """What `status` says of a pod."""
    found: dict[str, Any] = podium.json("status", uuid)["pod"]
    return found


def exit_code(podium: Podium, uuid: str, app: str = "a") -> int | None:
    """How an app has ended, as `status` tells; None: it has not."""
    try:
        apps = status(podium, uuid)["apps"]
    except AssertionError:  # the pod is not there yet, or no more
        return None
    code: int | None = next((a["exit_code"] for a in apps if a["name"] == app and a["state"] == "exited"), None)
    return code


def helpers(podium: Podium, uuid: str, which: str) -> list[int]:
    """Pids of a pod's QEMU, its virtiofsd, of which there are two, or its relays; none if it has none now."""
    with open(podium.config, encoding="utf-8") as f:
        parent = f.read().partition('parent = "')[2].partition('"')[0]
    return [pid for pid in cgroup.procs(f"{parent}/{uuid}") if _line(pid, "comm").startswith(HELPERS[which])]


def at_work(podium: Podium) -> dict[int, str]:
    """Pid → state of the processes that have this data directory on their command line."""
    found = {}
    for name in filter(str.isdigit, os.listdir("/proc")):
        if podium.dir in _line(int(name), "cmdline"):
            found[int(name)] = _line(int(name), "stat").rpartition(")")[2][1:2]
    return found


def kill(pids: list[int]) -> None:
    """SIGKILL to all that are still there."""
    for pid in pids:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue


def stopped(podium: Podium) -> list[int]:
    """Pids of the processes on this data directory that have stopped themselves at a trace point."""
    return [pid for pid, state in at_work(podium).items() if state == "T"]


def _line(pid: int, name: str) -> str:
    try:
        with open(f"/proc/{pid}/{name}", encoding="utf-8", errors="replace") as f:
            return f.read().rstrip("\n")
    except OSError:
        return ""
