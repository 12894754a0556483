"""What has arrived of blobs that are being fetched: cache/partial/<digits>, which a later attempt goes on with.

Whoever holds the lock of such a file writes to it, and keeps it locked until the blob is in the store: so who waited
for the lock finds the blob there.
"""

from __future__ import annotations

import fcntl
import os
import time

from podium.contexts import suppress
from podium.paths import DataDir

TYPE_CHECKING = False


def claim(path: str) -> int:
    """A descriptor of the file, which is locked, and at this path still.

    A file with a second name was published by somebody who was killed then: it must not be written to.
    """
    while True:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            mine = os.fstat(fd)
            with suppress(FileNotFoundError):
                if os.stat(path).st_ino == mine.st_ino:
                    if mine.st_nlink == 1:
                        return fd
                    os.unlink(path)
        except BaseException:
            os.close(fd)
            raise
        os.close(fd)


def sweep(data: DataDir, grace: float, *, dry_run: bool) -> tuple[list[str], int]:
    """Remove what arrived of blobs that nobody went on with for `grace` seconds; their names, and their bytes."""
    removed, freed = [], 0
    try:
        names = sorted(os.listdir(data.partial))
    except FileNotFoundError:
        return [], 0
    for name in names:
        path = os.path.join(data.partial, name)
        with suppress(FileNotFoundError, BlockingIOError):
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                st = os.fstat(fd)
                if time.time() - st.st_mtime < grace:
                    continue
                if not dry_run:
                    os.unlink(path)
                removed.append(name)
                freed += st.st_size if st.st_nlink == 1 else 0
            finally:
                os.close(fd)
    return removed, freed
