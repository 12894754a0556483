"""What a supervisor is told when it begins, and what it hands on to the process that it becomes."""

from __future__ import annotations

from podium.named import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any


class Options(NamedTuple):
    """How a pod is run (arguments of the worker protocol's `run`).

    Attributes:
        lock: descriptor of the pod's lock.
        stdio: the caller's streams in the foreground; None: detached.
        tty: the app gets a terminal.
        via: how the code was found.
        remove: the pod is to be collected as soon as it has ended.
        hooks: the folder of commands on events.
    """

    lock: int
    stdio: tuple[int, int, int] | None = None
    tty: bool = False
    via: str = "installed"
    remove: bool = False
    hooks: str = ""

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Options:
        """What it does not know is ignored: a newer podium may say more."""
        known = {k: v for k, v in data.items() if k in cls._fields}
        return cls(**{**known, "stdio": tuple(data["stdio"]) if data.get("stdio") else None})


class Handover(NamedTuple):
    """What a supervisor hands on to the process that it becomes.

    Attributes:
        waiting: see `Waiting.handed_on`.
        supervisor: what `PodSupervisor.taken_over` needs.
        sandbox: the sandbox's class, and what its `taken_over` needs.
        descriptors: those that have to stay open.
        signalled: tells whether a signal has come that nobody has heeded yet.
    """

    waiting: dict[str, Any]
    supervisor: dict[str, Any]
    sandbox: dict[str, Any]
    descriptors: list[int]
    signalled: Callable[[], bool]
