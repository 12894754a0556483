"""A folder below tmp/ for half-made things; whoever holds its lock owns it, and what nobody owns is removed.

Everything of an import is made here and renamed into place when it is whole, so a killed import leaves only this.
"""

from __future__ import annotations

import fcntl
import os
import threading

from podium.contexts import contextmanager
from podium.linux.syscalls import LIBC, check
from podium.linux.tree import remove_tree
from podium.paths import DataDir

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

_PREFIX = "image-"
_SYNC_EVERY = 64 << 20  # bytes written


class Workspace:
    """Made on entering, removed on leaving.

    Attributes:
        path: the folder.
        blobs: a folder in it for blobs, named by their digits.
        dirty: something was written that is not synced.
    """

    def __init__(self, data: DataDir) -> None:
        self._data = data
        self.path = self.blobs = ""
        self._name = ""
        self._fd = -1
        self.dirty = False
        self._unsynced = 0
        self._syncs: list[threading.Thread] = []
        self._failures: list[OSError] = []

    def __enter__(self) -> Workspace:
        while True:
            self._name = f"{_PREFIX}{os.getpid()}-{os.urandom(6).hex()}"
            self.path = os.path.join(self._data.tmp, self._name)
            try:
                os.mkdir(self.path, 0o700)
                self._fd = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
                fcntl.flock(self._fd, fcntl.LOCK_EX)
                self.blobs = os.path.join(self.path, "blobs")
                os.mkdir(self.blobs, 0o700)
                return self
            except FileNotFoundError:  # removed as a leftover, before it was locked
                if self._fd >= 0:
                    os.close(self._fd)
                    self._fd = -1
                if not os.path.isdir(self._data.tmp):
                    raise

    def __exit__(self, *_: object) -> None:
        try:
            self._wait()
            remove_tree(self._data.tmp, self._name)
        finally:
            os.close(self._fd)

    def written(self, size: int) -> None:
        """So many bytes more were unpacked. Now and then all is synced beside the work, so that `sync` waits less.

        Nothing may be forked from then on until `sync`.
        """
        self.dirty = True
        self._unsynced += size
        if self._unsynced >= _SYNC_EVERY:
            self._syncs = [thread for thread in self._syncs if thread.is_alive()]
            if not self._syncs:
                self._begin()

    def sync(self) -> None:
        """Make all that was written outlive a crash (syncfs(2)): cheaper than an fsync of each of many files."""
        with self.syncing():
            pass

    @contextmanager
    def syncing(self) -> Iterator[None]:
        """`sync` in a thread, beside what is read meanwhile; who writes meanwhile has to see to that himself."""
        if self.dirty:
            self._begin()
        try:
            yield
        finally:
            self._wait()
        if self._failures:
            raise self._failures[0]
        self.dirty = False

    def _begin(self) -> None:
        self._unsynced = 0
        self._syncs.append(threading.Thread(target=self._syncfs, name="sync"))
        self._syncs[-1].start()

    def _syncfs(self) -> None:
        try:
            check(LIBC.syncfs(self._fd), "syncfs", self.path)
        except OSError as e:
            self._failures.append(e)  # the kernel tells it once

    def _wait(self) -> None:
        while self._syncs:
            self._syncs.pop().join()


def sweep(data: DataDir) -> list[str]:
    """Remove the workspaces of processes that are gone; returns their names."""
    removed = []
    try:
        names = os.listdir(data.tmp)
    except FileNotFoundError:
        return []
    for name in names:
        if not name.startswith(_PREFIX):
            continue
        try:
            fd = os.open(os.path.join(data.tmp, name), os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except FileNotFoundError:
            continue
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            remove_tree(data.tmp, name)
            removed.append(name)
        except BlockingIOError:
            pass  # somebody is at work in it
        finally:
            os.close(fd)
    return removed
