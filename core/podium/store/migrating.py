"""Bringing a data directory of an older format up to date: in order, under locks, with a backup, each step logged.

Only commands that write do it, and `podium migrate`; reading never migrates. A step may be done twice: after a kill at
any moment it is begun anew, since format.json names the new format last.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import time

from podium import __version__, format, records
from podium.clock import rfc3339
from podium.contexts import contextmanager
from podium.errors import InUse
from podium.features import Features
from podium.linux.files import fsync_dir, write_atomic
from podium.named import NamedTuple
from podium.paths import DataDir
from podium.store import index, locks, migrations
from podium.store.migrations import format0002
from podium.trace import trace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

PATIENCE = 60.0  # seconds that others are waited for


class Step(NamedTuple):
    """A migration of the data.

    Attributes:
        format: the format that it leads to.
        what: what it does, for people.
        flags: that data of this format may use beyond the one before.
        apply: does it; may be done again.
    """

    format: int
    what: str
    flags: Features
    apply: Callable[[DataDir], None]


STEPS = (
    Step(
        2,
        "the time of an image's last use is kept beside its record",
        Features(ro_compat=(format.IMAGE_USED,)),
        format0002.apply,
    ),
)


class Plan(NamedTuple):
    """What there is to do: steps of the data, and versions of the index's schema."""

    format: int
    steps: tuple[Step, ...]
    schemas: tuple[int, ...]

    def to_json(self) -> dict[str, Any]:
        """Members of `podium.migrate/1`."""
        steps = [{"format": s.format, "what": s.what} for s in self.steps]
        return {"format": self.format, "known": format.VERSION, "steps": steps, "index": list(self.schemas)}


def plan(data: DataDir) -> Plan:
    """What a migration would do. Changes nothing.

    Raises:
        NewerFormat, Corrupt: as `podium.format.check`.
    """
    number = format.check(data) or format.VERSION
    schema = index.schema(data)
    pending = () if schema is None else tuple(range(schema + 1, migrations.VERSION + 1))
    return Plan(number, tuple(s for s in STEPS if s.format > number), pending)


def migrate(data: DataDir, tell: Callable[[str], None], patience: float = PATIENCE) -> Plan:
    """Do what `plan` says; returns what was done.

    Args:
        data: the data directory.
        tell: is given what happens, a sentence each.
        patience: seconds that others are waited for.

    Raises:
        InUse: somebody uses the store for longer; names the process.
    """
    with _alone(data, tell, patience):
        todo = plan(data)
        if todo.steps:
            _back_up(data, todo.format)
            trace("migrate:backup")
        for step in todo.steps:
            _log(data, "begin", step)
            trace(f"migrate:begin-{step.format}")
            step.apply(data)
            trace(f"migrate:applied-{step.format}")
            _write_format(data, step)
            trace(f"migrate:format-{step.format}")
            _log(data, "done", step)
            tell(f"{data.root}: format {step.format}: {step.what}")
        reached = index.migrate(data) if todo.schemas else []
        for version in reached:
            tell(f"{data.root}: index of schema {version}")
    return todo._replace(schemas=tuple(reached))


def automatic(data: DataDir, tell: Callable[[str], None]) -> None:
    """As `migrate`, for a command that came for something else: an index that is in use is left for later."""
    try:
        migrate(data, tell)
    except InUse as e:
        if e.subject != data.index:
            raise
        tell(e.message)


@contextmanager
def _alone(data: DataDir, tell: Callable[[str], None], patience: float) -> Iterator[None]:
    """Hold the locks under which the store is changed, which every podium of every format honours."""
    held: list[int] = []
    try:
        for name in (locks.STORE, locks.RECORDS):
            path = os.path.join(data.locks, name)
            held.append(fd := os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600))
            _wait(fd, path, data, tell, time.monotonic() + patience)
        yield
    finally:
        for fd in reversed(held):
            os.close(fd)


def _wait(fd: int, path: str, data: DataDir, tell: Callable[[str], None], until: float) -> None:
    told = False
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            who = locks.holders(path) or "another process"
        if not told:
            tell(f"{data.root} is to be migrated to format {format.VERSION}: waiting for {who}")
            told = True
        if time.monotonic() >= until:
            raise InUse(
                f"{data.root} can't be migrated to format {format.VERSION} while {who} uses it",
                hint="try again when that has ended; reading commands work meanwhile",
                subject=data.root,
            )
        time.sleep(0.05)


def _back_up(data: DataDir, number: int) -> None:
    """Keep format.json and the index as they are; a backup that is there already is of the same format, and stays."""
    target = os.path.join(data.backup, f"format-{number}")
    if os.path.isdir(target):
        return
    made = os.path.join(data.backup, f".tmp-{os.getpid()}-{os.urandom(6).hex()}")
    os.makedirs(made, mode=0o700)
    for path in (data.format, data.index):
        if os.path.exists(path):
            shutil.copy2(path, made)
            with open(os.path.join(made, os.path.basename(path)), "rb") as f:
                os.fsync(f.fileno())
    fsync_dir(made)
    os.rename(made, target)
    fsync_dir(data.backup)


def _write_format(data: DataDir, step: Step) -> None:
    """Name the new format and its flags; members that this podium does not know stay."""
    with open(data.format, "rb") as f:
        content = json.load(f)
    for kind, flags in step.flags.to_json().items():
        content[kind] = list(dict.fromkeys((*content.get(kind, ()), *flags)))
    content |= {"format": step.format, "written_by": f"podium {__version__}"}
    write_atomic(data.format, (json.dumps(content, indent=1) + "\n").encode())


def _log(data: DataDir, op: str, step: Step) -> None:
    record = {"migration": step.format, "op": op, "what": step.what, "by": f"podium {__version__}", "at": rfc3339()}
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
    fd = os.open(data.migrations, flags, 0o600)
    try:
        os.write(fd, records.seal(record) + b"\n")
        os.fsync(fd)
    finally:
        os.close(fd)
