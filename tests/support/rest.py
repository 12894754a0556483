"""Supervisors at rest: they have become small."""

from __future__ import annotations

from typing import Any

from support.command import Podium
from support.fly import until

# MiB: the 6 to which bench/memory.py holds five pods, and what one alone has of the interpreter that nobody shares.
BUDGET = 7.0


def _pod(podium: Podium, uuid: str) -> Any:
    return podium.json("status", uuid)["pod"]


def supervisor(podium: Podium, uuid: str) -> int:
    """Pid of the process that holds the pod."""
    pid: int = _pod(podium, uuid)["pid"]
    return pid


def at_rest(pid: int) -> bool:
    """Whether the supervisor with this pid is the small process."""
    with open(f"/proc/{pid}/comm", encoding="ascii") as f:
        return f.read() == "podium-resting\n"


def rested(podium: Podium, uuid: str) -> int:
    """Wait until the pod's supervisor is at rest; returns its pid."""
    pid = supervisor(podium, uuid)
    until(lambda: at_rest(pid), "the supervisor is at rest")
    return pid


def resting_or_gone(podium: Podium, uuid: str) -> None:
    """Wait until the pod's supervisor is at rest, or was killed on the way."""
    until(lambda: gone_or_at_rest(podium, uuid), "the supervisor is at rest")


def gone_or_at_rest(podium: Podium, uuid: str) -> bool:
    """Whether the pod's supervisor is at rest, or there is none."""
    pid = _pod(podium, uuid)["pid"]
    try:
        return pid is None or at_rest(pid)
    except FileNotFoundError:
        return True


def held(pid: int) -> float:
    """MiB that a process holds, its share of what it shares with others."""
    with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as f:
        return next(int(line.split()[1]) for line in f if line.startswith("Pss:")) / 1024


def first_app(podium: Podium, uuid: str) -> Any:
    """What `status` says of the pod's first app, without when."""
    app = _pod(podium, uuid)["apps"][0]
    return {name: app[name] for name in ("state", "exit_code", "signal", "restarts", "message")}
