"""index.db: a copy of images/ in SQLite, never the truth.

Every use first compares it with the files in images/ (inode, time, size), and reads again what differs. So it can be
lost, damaged, copied or left behind by another version without harm: a damaged one is kept aside and made anew.
"""

from __future__ import annotations

import json
import os
import sqlite3

from podium.contexts import contextmanager
from podium.errors import Corrupt, InUse, PodiumError
from podium.named import NamedTuple
from podium.paths import DataDir
from podium.records import Unreadable
from podium.store import locks
from podium.store.image import Image, read_record
from podium.store.migrations import STEPS, VERSION
from podium.trace import trace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

_DAMAGED = "index.db.damaged"


class OtherSchema(sqlite3.Error):
    """The index has an older schema, which only a migration changes, or a newer podium's, which is left to it."""


class Problem(NamedTuple):
    """An image's record that can't be read."""

    hex: str
    error: PodiumError


def _on_disk(data: DataDir) -> dict[str, tuple[int, int, int]]:
    found = {}
    try:
        with os.scandir(data.images) as entries:
            for entry in entries:
                if entry.name.endswith(".json") and not entry.name.startswith("."):
                    try:
                        st = entry.stat(follow_symlinks=False)
                    except FileNotFoundError:
                        continue
                    found[entry.name.removesuffix(".json")] = (st.st_ino, st.st_mtime_ns, st.st_size)
    except FileNotFoundError:
        pass
    return found


def survey(data: DataDir) -> tuple[list[Image], list[Problem]]:
    """All images, and all records that can't be read."""
    try:
        with _open(data) as db:
            _refresh(data, db)
            rows = db.execute("SELECT hex, record, problem FROM images").fetchall()
    except (sqlite3.Error, OSError):
        return _without(data)  # another schema, or a read-only or full file system, or one that can't lock
    images, problems = [], []
    for digits, record, problem in rows:
        if record is None:
            problems.append(Problem(digits, Corrupt(problem, subject=digits, hint="'podium fsck' tells more")))
        else:
            images.append(Image.from_record(json.loads(record)))
    return images, problems


def with_blob(data: DataDir, digest: str) -> list[str]:
    """The digits of the images that need a blob."""
    return [i.hex for i in survey(data)[0] if any(b.digest == digest for b in i.blobs)]


def _without(data: DataDir) -> tuple[list[Image], list[Problem]]:
    images, problems = [], []
    for digits in _on_disk(data):
        try:
            images.append(read_record(data, digits))
        except FileNotFoundError:
            continue
        except Corrupt as e:
            problems.append(Problem(digits, e))
    return images, problems


@contextmanager
def _open(data: DataDir) -> Iterator[sqlite3.Connection]:
    db = _connect(data)
    try:
        yield db
    finally:
        db.close()


def _connect(data: DataDir) -> sqlite3.Connection:
    for attempt in (0, 1):
        db = sqlite3.connect(data.index, timeout=10.0, isolation_level=None)
        try:
            db.execute("PRAGMA synchronous = OFF")  # a damaged cache is made anew
            _make(db)
            db.execute("SELECT hex, inode, mtime, size, record, problem FROM images LIMIT 1").fetchall()
            return db
        except OtherSchema:
            db.close()
            raise
        except sqlite3.OperationalError as e:
            db.close()
            if attempt or "no such" not in str(e):
                raise
        except sqlite3.DatabaseError:
            db.close()
            if attempt:
                raise
        _set_aside(data)
    raise AssertionError("unreachable")


def _set_aside(data: DataDir) -> None:
    """Keep a damaged index as evidence, the last one only."""
    try:
        os.rename(data.index, os.path.join(data.cache, _DAMAGED))
    except FileNotFoundError:
        pass
    for ending in ("-journal", "-wal", "-shm"):
        try:
            os.unlink(data.index + ending)
        except FileNotFoundError:
            pass


def schema(data: DataDir) -> int | None:
    """The schema's version of the index; None where there is no index that can be read."""
    from urllib.parse import quote

    try:
        db = sqlite3.connect(f"file:{quote(data.index)}?mode=ro", uri=True, timeout=10.0)
    except sqlite3.Error:
        return None
    try:
        (version,) = db.execute("PRAGMA user_version").fetchone()
    except sqlite3.Error:
        return None
    finally:
        db.close()
    assert isinstance(version, int)
    return version or None


def fault(data: DataDir) -> str | None:
    """What is wrong with the index, all of which is read; None if nothing is, or if it has another schema."""
    from urllib.parse import quote

    if not os.path.lexists(data.index):
        return "the index is missing" if _on_disk(data) else None
    try:
        if os.path.getsize(data.index) == 0:
            return "the index is empty"
        db = sqlite3.connect(f"file:{quote(data.index)}?mode=ro", uri=True, timeout=10.0)
        try:
            (version,) = db.execute("PRAGMA user_version").fetchone()
            if version and version != VERSION:
                return None
            (state,) = db.execute("PRAGMA integrity_check(1)").fetchone()
            if state != "ok":
                return f"the index is damaged: {state}"
            return _difference(data, db)
        finally:
            db.close()
    except (sqlite3.Error, OSError) as e:
        return f"the index can't be read: {e}"


def _difference(data: DataDir, db: sqlite3.Connection) -> str | None:
    """Whether a row says anything else than the very file that it says it was read from."""
    found = _on_disk(data)
    db.execute("BEGIN")  # all of it as it is at one moment
    for digits, *identity, record, problem in db.execute("SELECT hex, inode, mtime, size, record, problem FROM images"):
        if found.get(digits) != tuple(identity):
            continue  # it is read again at the next use
        wanted: tuple[set[str], set[str]] = set(), set()
        text = None
        try:
            image = read_record(data, digits)
            text = json.dumps(image.record(), separators=(",", ":"))
            wanted = set(image.references), {b.digest for b in image.blobs}
        except FileNotFoundError:
            continue
        except Corrupt:
            pass
        got = tuple(
            {row[0] for row in db.execute(f"SELECT {column} FROM {table} WHERE hex = ?", (digits,))}
            for column, table in (("reference", "names"), ("digest", "blobs"))
        )
        differs = record != text or got != wanted or (text is None) != (problem is not None)
        if differs and _on_disk(data).get(digits) == tuple(identity):  # else the record was replaced just now
            return f"the index says something else of image {digits[:12]} than its record"
    return None


def migrate(data: DataDir) -> list[int]:
    """Bring an older schema up to date, each step in one transaction with its version; returns the versions reached.

    Raises:
        InUse: somebody reads the index all the time.
        PodiumError: it can't be written.
    """
    try:
        return _migrate(data)
    except sqlite3.Error as e:
        hint = "see whether the disk is full or read-only; podium works without the index; try 'podium migrate' again"
        raise PodiumError(f"{data.index} can't be migrated: {e}", hint=hint, subject=data.index) from None


def _migrate(data: DataDir) -> list[int]:
    reached = []
    version = schema(data)
    if version is None or version >= VERSION:
        return []
    db = sqlite3.connect(data.index, timeout=10.0, isolation_level=None)
    try:
        db.execute("BEGIN IMMEDIATE")
        (version,) = db.execute("PRAGMA user_version").fetchone()  # another process may have been faster
        while 0 < version < VERSION:
            STEPS[version](db)
            version += 1
            db.execute(f"PRAGMA user_version = {version}")
            trace(f"migrate:index-{version}")
            db.execute("COMMIT")
            reached.append(version)
            db.execute("BEGIN IMMEDIATE")
        db.execute("ROLLBACK")
    except sqlite3.OperationalError as e:
        if "locked" not in str(e):
            raise
        who = locks.holders(data.index) or "another process"
        raise InUse(
            f"the index is in use by {who}",
            hint="podium works without it; try 'podium migrate' later",
            subject=data.index,
        ) from None
    finally:
        db.close()
    return reached


def renew(data: DataDir) -> None:
    """`migrate`, for a command that came for something else; an older podium may have made the index anew."""
    try:
        migrate(data)
    except PodiumError:
        pass  # it is only a cache


def dump(data: DataDir) -> list[str]:
    """The index as SQL text, for comparing two of them."""
    with _open(data) as db:
        return [*db.iterdump(), *map(str, db.execute("PRAGMA user_version"))]


def _make(db: sqlite3.Connection) -> None:
    """Make the tables of a new index, from the same steps as a migration. Reading never migrates."""
    (version,) = db.execute("PRAGMA user_version").fetchone()
    if version == 0:
        db.execute("BEGIN IMMEDIATE")
        (version,) = db.execute("PRAGMA user_version").fetchone()  # another process may have been faster
        if version == 0:
            for step in STEPS:
                step(db)
            version = VERSION
            db.execute(f"PRAGMA user_version = {VERSION}")
        db.execute("COMMIT")
    if version != VERSION:
        raise OtherSchema(f"the index has schema {version}, not {VERSION}")


def _refresh(data: DataDir, db: sqlite3.Connection) -> None:
    found = _on_disk(data)
    known = {row[0]: row[1:] for row in db.execute("SELECT hex, inode, mtime, size FROM images")}
    changed = [digits for digits, what in found.items() if known.get(digits) != what]
    gone = known.keys() - found.keys()
    if not changed and not gone:
        return
    db.execute("BEGIN IMMEDIATE")
    for digits in (*gone, *changed):
        for table in ("images", "names", "blobs"):
            db.execute(f"DELETE FROM {table} WHERE hex = ?", (digits,))
    for digits in changed:
        _add(data, db, digits, found[digits])
    db.execute("COMMIT")


def _add(data: DataDir, db: sqlite3.Connection, digits: str, identity: tuple[int, int, int]) -> None:
    record = problem = None
    try:
        image = read_record(data, digits)
        record = json.dumps(image.record(), separators=(",", ":"))
        db.executemany("INSERT OR IGNORE INTO names VALUES (?, ?)", [(r, digits) for r in image.references])
        db.executemany("INSERT OR IGNORE INTO blobs VALUES (?, ?)", [(b.digest, digits) for b in image.blobs])
    except FileNotFoundError:
        return
    except Corrupt as e:
        problem = e.message
        if isinstance(e, Unreadable):
            identity = (0, 0, 0)  # no file's, so the next use reads it again
    db.execute("INSERT INTO images VALUES (?, ?, ?, ?, ?, ?)", (digits, *identity, record, problem))
