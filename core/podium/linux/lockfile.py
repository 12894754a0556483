"""Files that are there to be locked (flock(2)): whoever holds one's descriptor holds the lock."""

from __future__ import annotations

import fcntl
import os

from podium.contexts import contextmanager

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator


def take(path: str, *, shared: bool = False, wait: bool = True) -> int:
    """Lock a file, which is made if need be; returns the descriptor that holds the lock.

    Args:
        path: of the file.
        shared: others may hold it shared too.
        wait: until it can be had.

    Raises:
        BlockingIOError: somebody else holds it, and `wait` is not set.
    """
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(fd, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | (0 if wait else fcntl.LOCK_NB))
    except BaseException:
        os.close(fd)
        raise
    return fd


@contextmanager
def locked(path: str, *, shared: bool = False, wait: bool = True) -> Iterator[None]:
    """Hold the lock for the block; see `take`."""
    fd = take(path, shared=shared, wait=wait)
    try:
        yield
    finally:
        os.close(fd)
