"""logs: what the apps printed while nobody was attached."""

from __future__ import annotations

import heapq
import os
import select

from podium import clock
from podium.actions import observe
from podium.actions.context import Context
from podium.errors import NotFound, WrongState
from podium.named import NamedTuple
from podium.pods import lifecycle, lock

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

LOGS, OLDER = "logs", ".1"  # as podium.sandbox.stdio writes them, which nobody is to import for this
_PAUSE = 0.2  # seconds; only while a pod runs whose log does not grow


class LogLine(NamedTuple):
    """A line of a log (CRI log format).

    Attributes:
        app: name of the app.
        time: RFC 3339, with nanoseconds.
        stream: `stdout` or `stderr`.
        partial: the line goes on in the next one.
        text: without the newline.
    """

    app: str
    time: str
    stream: str
    partial: bool
    text: bytes


def logs(
    context: Context, ref: str, app: str | None, follow: bool, since: float | None, tail: int | None
) -> Iterator[LogLine]:
    """Lines of one or all apps, in the order of their times.

    Args:
        context: where.
        ref: the pod.
        app: only this app's.
        follow: go on until the pod has ended.
        since: seconds since the epoch; nothing older.
        tail: only so many of the last lines there are.

    Raises:
        NotFound: no such pod, or app in it.
        WrongState: there is no log, with the reason.
    """
    info = observe.look(context.data, ref)
    names = [a.name for a in info.apps]
    if app is not None:
        names = [observe.app_of(info.uuid, names, app)]
    readers = [_Reader(os.path.join(info.path, LOGS, name), name) for name in names]
    if not follow and not any(os.path.exists(r.path) for r in readers) and info.runtime and not info.runtime.detached:
        raise WrongState(
            f"pod {info.uuid} ran in the foreground, where its output went to the caller",
            hint="use --detach, or --stdout log --stderr log with the app",
            subject=info.uuid,
        )
    lines = list(heapq.merge(*(list(r.read()) for r in readers), key=lambda line: line.time))
    if since is not None:
        lines = [line for line in lines if _seconds(line.time) >= since]
    yield from lines if tail is None else lines[len(lines) - min(tail, len(lines)) :]
    while follow:
        ended = _ended(context, info.uuid)
        new = list(heapq.merge(*(list(r.read()) for r in readers), key=lambda line: line.time))
        yield from new
        if ended:
            return
        if not new:
            select.select([], [], [], _PAUSE)


def console(context: Context, ref: str, tail: int | None) -> list[bytes]:
    """Lines that were printed on the console of a pod's guest, without their ends.

    Args:
        context: where.
        ref: the pod.
        tail: only so many of the last lines there are.

    Raises:
        NotFound: no such pod.
        WrongState: it has no console.
    """
    from podium.sandbox.console import read

    info = observe.look(context.data, ref)
    lines = read(info.path)
    if lines is None:
        raise WrongState(
            f"pod {info.uuid} has no console",
            hint="only a virtual machine (--stage1 kvm) has one, once it was started",
            subject=info.uuid,
        )
    return lines if tail is None else lines[len(lines) - min(tail, len(lines)) :]


def _seconds(time: str) -> float:
    return clock.parse(time[:23] + "Z")


def _ended(context: Context, uuid: str) -> bool:
    try:
        pod = lifecycle.find(context.data, uuid)
        return pod.phase not in ("embryo", "prepare", "prepared") and not lock.is_locked(pod.path)
    except (NotFound, FileNotFoundError):
        return True


class _Reader:
    """Reads a log from where it stopped, whole lines only. It keeps the file open: a pod moves when it ends."""

    def __init__(self, path: str, app: str) -> None:
        self.path = path
        self._app = app
        self._file = -1
        self._rest = b""

    def read(self) -> Iterator[LogLine]:
        if self._file < 0:
            self._file = _open(self.path)
            older = _open(self.path + OLDER)  # in this order: what is renamed in between is read once
            if older >= 0:
                if self._file < 0 or not os.path.samestat(os.fstat(older), os.fstat(self._file)):
                    yield from self._lines(older)
                os.close(older)
        while self._file >= 0:
            yield from self._lines(self._file)
            newer = _open(self.path)
            if newer < 0 or os.path.samestat(os.fstat(newer), os.fstat(self._file)):
                if newer >= 0:
                    os.close(newer)
                return
            yield from self._lines(self._file)  # what was written before it became the older one
            os.close(self._file)
            self._file = newer

    def _lines(self, file: int) -> Iterator[LogLine]:
        while data := os.read(file, 1 << 20):
            *lines, self._rest = (self._rest + data).split(b"\n")
            for line in lines:
                parts = line.split(b" ", 3)
                if len(parts) == 4:  # anything else was cut off by a crash
                    time, stream, tag, text = parts
                    yield LogLine(
                        self._app, time.decode(errors="replace"), stream.decode(errors="replace"), tag == b"P", text
                    )


def _open(path: str) -> int:
    """A descriptor to read from; -1: there is no such file."""
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        return -1
