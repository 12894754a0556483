"""The event log: events/log in the data directory, a sealed record a line, rotated to log.1 … log.4.

Appending is one write under a lock. Half a line, which a writer that was killed has left, is cut off by the next one;
readers pass over it. Lines of pods are not fsynced, since that would be on the path of each run: what a power failure
costs is found missing by whoever looks at the pod in the next boot (`emitter`). Of what leaves nothing to look at (an
image, a gc that has ended) they are.
"""

from __future__ import annotations

import os

from podium import records
from podium.clock import rfc3339
from podium.errors import Corrupt
from podium.events.record import Event
from podium.linux.lockfile import locked
from podium.paths import DataDir

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

ROTATE_BYTES = 4 << 20
KEPT = 4
CURSOR = "delivered"  # in events/: number of the last event that everybody was told of
_TAILS = (1 << 12, 1 << 16, 1 << 22)  # bytes at the end of the log that are looked at for its last event


def append(data: DataDir, events: Sequence[Event], rotate_bytes: int = ROTATE_BYTES, *, durable: bool = False) -> int:
    """Append events in order; returns the number of the last. Raises OSError."""
    os.makedirs(data.events, mode=0o700, exist_ok=True)
    with locked(os.path.join(data.events, "lock")):
        path = os.path.join(data.events, "log")
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            size, seq = _mend(fd)
            if seq == 0:
                seq = max((event.seq for event in _read(os.path.join(data.events, "log.1"))), default=0)
            seq = max(seq, delivered(data))  # a power failure can cost more of the log than of that
            lines = b""
            for event in events:
                seq += 1
                lines += records.seal(event._replace(seq=seq, time=event.time or rfc3339()).to_json()) + b"\n"
            left = memoryview(lines)
            while left:
                left = left[os.write(fd, left) :]
            if durable:
                os.fdatasync(fd)
        finally:
            os.close(fd)
        if size + len(lines) > rotate_bytes:
            _rotate(data)
    return seq


def _mend(fd: int) -> tuple[int, int]:
    """Cut off half a line; returns the size and the number of the last event that can be read."""
    end, seq = _end(fd)
    if end != os.fstat(fd).st_size:
        os.ftruncate(fd, end)
    return end, seq


def _end(fd: int) -> tuple[int, int]:
    """Where the last whole line ends, and the number of the last event that can be read."""
    size = end = os.fstat(fd).st_size
    for length in _TAILS:
        start = max(0, size - length)
        tail = os.pread(fd, size - start, start)
        whole = tail.rfind(b"\n") + 1
        end = start + whole
        for line in reversed(tail[:whole].splitlines()):
            event = _parse(line)
            if event is not None:
                return end, event.seq
        if start == 0:
            break
    return end, 0


def sync(data: DataDir) -> None:
    """Let what was logged so far outlive a power failure. Never an error: it is as good as before."""
    try:
        fd = os.open(os.path.join(data.events, "log"), os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return
    try:
        os.fdatasync(fd)
    except OSError:
        pass
    finally:
        os.close(fd)


def delivered(data: DataDir) -> int:
    """Number of the last event that everybody was told of."""
    try:
        with open(os.path.join(data.events, CURSOR), "rb") as f:
            return int(f.read(32))
    except (OSError, ValueError):
        return 0


def last(data: DataDir) -> int:
    """Number of the last event; 0 where there is none that can be read."""
    try:
        fd = os.open(os.path.join(data.events, "log"), os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return max((event.seq for event in _read(os.path.join(data.events, "log.1"))), default=0)
    try:
        return _end(fd)[1]
    finally:
        os.close(fd)


def _rotate(data: DataDir) -> None:
    for number in range(KEPT - 1, -1, -1):
        old = os.path.join(data.events, f"log.{number}" if number else "log")
        if os.path.exists(old):
            os.rename(old, os.path.join(data.events, f"log.{number + 1}"))


def _parse(line: bytes) -> Event | None:
    try:
        return Event.from_json(records.unseal(line, "an event"))
    except (Corrupt, KeyError, TypeError, ValueError):
        return None


def _read(path: str) -> Iterator[Event]:
    try:
        with open(path, "rb") as f:
            for line in f:
                event = _parse(line)
                if event is not None:
                    yield event
    except FileNotFoundError:
        return


def read(data: DataDir, after: int = 0) -> Iterator[Event]:
    """Events with a number above `after`, the oldest first. A rotation meanwhile shows none twice."""
    for number in range(KEPT, -1, -1):
        for event in _read(os.path.join(data.events, f"log.{number}" if number else "log")):
            if event.seq > after:
                after = event.seq
                yield event


def follow(data: DataDir, after: int = 0) -> Iterator[Event]:
    """As `read`, and then whatever comes, for ever: woken by inotify(7)."""
    from podium.linux.inotify import Watch

    os.makedirs(data.events, mode=0o700, exist_ok=True)
    with Watch(data.events) as watch:
        while True:
            for event in read(data, after):
                after = event.seq
                yield event
            watch.wait()
