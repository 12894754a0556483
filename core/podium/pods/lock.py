"""A pod's lock: flock(2), exclusive, on the pod's folder.

Its descriptor is inherited by the stage1 for its whole life, so a lock is free exactly when its last holder has ended.
"""

from __future__ import annotations

import errno
import fcntl
import os
import time

_RETRIES = (0.001, 0.002, 0.005, 0.01, 0.02)  # seconds; somebody who only asks holds the lock for microseconds


def open_folder(path: str) -> int:
    """A descriptor of the folder. Raises OSError."""
    return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW)


def try_lock(path: str) -> int | None:
    """Take the lock of the pod whose folder is `path`.

    Returns:
        The descriptor that holds it, or None when somebody else does.

    Raises:
        FileNotFoundError: the pod is not there, or moved on while the lock was taken.
    """
    fd = open_folder(path)
    try:
        if _acquire(fd):
            if _same(fd, path):
                return fd
            raise FileNotFoundError(errno.ENOENT, "the pod moved on", path)
    except BaseException:
        os.close(fd)
        raise
    os.close(fd)
    return None


def try_lock_for(path: str, seconds: float) -> int | None:
    """As `try_lock`, again and again for that long."""
    deadline = time.monotonic() + seconds
    while (fd := try_lock(path)) is None and time.monotonic() < deadline:
        time.sleep(0.005)
    return fd


def share(path: str) -> int | None:
    """Keep the pod where it is while its files are read. It still seems to be held by nobody.

    Returns:
        The descriptor that keeps it, or None when somebody holds its lock.

    Raises:
        FileNotFoundError: the pod is not there, or moved on meanwhile.
    """
    fd = open_folder(path)
    if _flock(fd, fcntl.LOCK_SH):
        if _same(fd, path):
            return fd
        os.close(fd)
        raise FileNotFoundError(errno.ENOENT, "the pod moved on", path)
    os.close(fd)
    return None


def _acquire(fd: int) -> bool:
    for pause in (*_RETRIES, None):
        if _flock(fd, fcntl.LOCK_EX):
            return True
        # A shared lock is refused only by a real holder; when it is granted, those in the way were only asking.
        if not _flock(fd, fcntl.LOCK_SH):
            return False
        fcntl.flock(fd, fcntl.LOCK_UN)
        if pause is not None:
            time.sleep(pause)
    return False


def _flock(fd: int, kind: int) -> bool:
    try:
        fcntl.flock(fd, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _same(fd: int, path: str) -> bool:
    try:
        at_path = os.stat(path, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return os.path.samestat(os.fstat(fd), at_path)


def is_locked(path: str) -> bool:
    """Whether somebody holds the pod's lock.

    Raises:
        FileNotFoundError: the pod is not there.
    """
    fd = open_folder(path)
    try:
        return not _flock(fd, fcntl.LOCK_SH)
    finally:
        os.close(fd)


def wait_free(path: str) -> None:
    """Wait until nobody holds the lock, or the pod is gone from `path`."""
    try:
        fd = open_folder(path)
    except FileNotFoundError:
        return
    try:
        fcntl.flock(fd, fcntl.LOCK_SH)
    finally:
        os.close(fd)
