"""Version 1: a copy of each record with the identity of the file it was read from, and its names and blobs."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sqlite3 import Connection


def apply(db: Connection) -> None:
    """Make the first tables."""
    db.execute(
        "CREATE TABLE images (hex TEXT PRIMARY KEY, inode INTEGER NOT NULL, mtime INTEGER NOT NULL,"
        " size INTEGER NOT NULL, record TEXT, problem TEXT) WITHOUT ROWID"
    )
    db.execute("CREATE TABLE names (reference TEXT, hex TEXT, PRIMARY KEY (reference, hex)) WITHOUT ROWID")
    db.execute("CREATE TABLE blobs (digest TEXT, hex TEXT, PRIMARY KEY (digest, hex)) WITHOUT ROWID")
