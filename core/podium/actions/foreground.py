"""What `run` and `enter` do while a worker has the caller's streams: lend them, and hand signals on."""

from __future__ import annotations

import fcntl
import os

from podium.contexts import contextmanager
from podium.linux.signals import FORWARDED, signal
from podium.stage1.client import Worker

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def streams() -> Iterator[tuple[int, int, int]]:
    """The caller's standard streams, under numbers that a worker can inherit."""
    copies = tuple(fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 10) for fd in (0, 1, 2))
    try:
        yield copies[0], copies[1], copies[2]
    finally:
        for fd in copies:
            os.close(fd)


@contextmanager
def signals_forwarded(worker: Worker) -> Iterator[None]:
    """Hand signals, and changes of the terminal's size, on to the worker."""

    def forward(number: int, frame: object) -> None:
        if worker.pid:  # our child, not yet waited for: the number is still its own
            os.kill(worker.pid, number)

    before = {number: signal.signal(number, forward) for number in (*FORWARDED, signal.SIGWINCH)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
