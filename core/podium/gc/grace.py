"""How long ago a pod ended, whatever happened to the clock meanwhile.

A pod that ended in this boot is told by CLOCK_BOOTTIME, which no clock change moves and which counts suspends. One
that ended in an earlier boot is at least as old as this boot; beyond that the wall clock has to be believed. Where no
end was recorded (the supervisor was killed), or one in the future, time counts from the first gc that saw it, which is
kept in `marked.json`.
"""

from __future__ import annotations

import os
import time

from podium import records
from podium.clock import parse, rfc3339, since_boot
from podium.errors import Corrupt
from podium.linux.procs import boot_id
from podium.named import NamedTuple
from podium.pods.status import Runtime

TYPE_CHECKING = False
if TYPE_CHECKING:
    from podium.pods.envelope import Envelope

MARKED = "marked.json"


class Moment(NamedTuple):
    """A moment, or a record of one: wall clock (seconds since the epoch), seconds since the boot, and which boot."""

    wall: float | None
    boottime: float | None
    boot: str | None


def now() -> Moment:
    """This moment."""
    return Moment(time.time(), since_boot(), boot_id())


def elapsed(then: Moment, at: Moment) -> float | None:
    """Seconds from `then` to `at`; None if `then` does not say, or lies in the future."""
    assert at.wall is not None and at.boottime is not None
    if then.boot is not None and then.boot == at.boot and then.boottime is not None:
        age = at.boottime - then.boottime
        return age if age >= 0 else None
    known = []
    if then.wall is not None and then.wall <= at.wall:
        known.append(at.wall - then.wall)
    if then.boot is not None and then.boot != at.boot:
        known.append(at.boottime)
    return max(known, default=None)


def ended(runtime: Runtime | None) -> Moment:
    """When a pod ended, as far as it was recorded."""
    if runtime is None or runtime.finished is None:
        return Moment(None, None, None)
    boottime = runtime.finished_boottime
    try:
        return Moment(_wall(runtime.finished), None if boottime is None else float(boottime), runtime.boot)
    except (OverflowError, TypeError, ValueError):
        return Moment(_wall(runtime.finished), None, runtime.boot)


def created(envelope: Envelope | None) -> Moment:
    """When a pod was prepared; envelopes of older podiums have the wall clock alone."""
    if envelope is None:
        return Moment(None, None, None)
    return Moment(_wall(envelope.created), envelope.created_boottime, envelope.created_boot)


def _wall(text: object) -> float | None:
    try:
        return parse(text) if isinstance(text, str) else None
    except (ValueError, OverflowError):
        return None


def age(folder: str, then: Moment, at: Moment, *, stamp: bool = True) -> float:
    """Seconds since `then`, or since gc first saw the pod, if `then` is of no use.

    Args:
        folder: the pod's; the caller holds its lock.
        then: what was recorded.
        at: now.
        stamp: write marked.json if it is needed and not there.
    """
    known = elapsed(then, at)
    if known is not None:
        return known
    seen = _read_mark(folder)
    known = None if seen is None else elapsed(seen, at)
    if known is not None:
        return known
    if not stamp or _write_mark(folder, at):
        return 0.0
    # Nothing can be written: the rename by which the pod was marked changed its folder's ctime.
    assert at.wall is not None
    return max(0.0, at.wall - os.stat(folder).st_ctime)


def _read_mark(folder: str) -> Moment | None:
    try:
        data = records.read(os.path.join(folder, MARKED), "the mark")
        return Moment(_wall(data["at"]), float(data["boottime"]), str(data["boot"]))
    except (OSError, Corrupt, KeyError, TypeError, ValueError, OverflowError):
        return None


def _write_mark(folder: str, at: Moment) -> bool:
    from podium.linux.files import write_atomic

    record = {"at": rfc3339(at.wall), "boottime": at.boottime, "boot": at.boot}
    try:
        write_atomic(os.path.join(folder, MARKED), records.seal(record) + b"\n", durable=False)
    except OSError:
        return False
    return True


def seconds_unchanged(path: str) -> float:
    """Seconds since the last change of a file's ctime, by the wall clock alone."""
    return time.time() - os.stat(path, follow_symlinks=False).st_ctime
