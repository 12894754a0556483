"""Deleting pods' folders, once nothing on the host is theirs any more.

A folder is first renamed to `tmp/gc-<uuid>`, still locked. So a pod is whole or gone, however gc ends: what a gc that
was killed has not deleted, the next one does, since nobody holds its lock. On a file system the renames and removals of
one process reach the disk in their order, so this holds after a power loss too.

Deleting is most of the work: of more than a few pods another process does it, while the next ones are released.
"""

from __future__ import annotations

import errno
import os
from collections import deque

from podium.errors import PodiumError
from podium.gc import grace
from podium.gc.remover import Remover, removed
from podium.named import NamedTuple
from podium.paths import DELETING, GARBAGE, DataDir
from podium.pods import lock
from podium.pods.lifecycle import PodRef, is_uuid
from podium.trace import trace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_MAKING = "pod-"  # prefix in tmp/ of a pod's folder before it is an embryo
_ABANDONED = 60.0  # seconds after which an empty folder that nobody locks is nobody's
_WAITING = 100  # pods; each keeps a descriptor open, of which a process may have 1024
_FEW = 8  # pods that are not worth a process
_FULL = (errno.ENOSPC, errno.EDQUOT)


class _Item(NamedTuple):
    """A pod, where it was; the descriptor that holds its lock; parent and name of what is to be removed."""

    pod: PodRef
    fd: int
    parent: str
    name: str


class Deletion:
    """Folders that are being deleted, each locked until it is.

    Args:
        data: where.
        done: called, by this thread, for each pod with what went wrong; one that failed is back where it was.
        expected: how many there may be.
        taken: called with the uuid and the folder of each, before it is deleted.
    """

    def __init__(
        self,
        data: DataDir,
        done: Callable[[PodRef, PodiumError | OSError | None], None],
        expected: int,
        taken: Callable[[str, str], None] | None = None,
    ) -> None:
        self._data = data
        self._done = done
        self._taken = taken
        self._apart = expected > _FEW
        self._remover: Remover | None = None
        self._pending: deque[_Item] = deque()

    def __enter__(self) -> Deletion:
        """All is deleted when the block ends."""
        return self

    def __exit__(self, *exc: object) -> None:
        while self._pending:
            self._settle()
        if self._remover is not None:
            self._remover.close()

    def take(self, pod: PodRef, fd: int) -> None:
        """Take a pod's folder out of pods/, and its lock over.

        Raises:
            OSError: it can't be moved; the lock stays the caller's.
        """
        name = DELETING + pod.uuid
        try:
            os.rename(pod.path, os.path.join(self._data.tmp, name))
        except OSError as e:
            if e.errno not in _FULL:
                raise
            # No room for a name: it is deleted where it is.
            item = _Item(pod, fd, self._data.phase(pod.phase), pod.uuid)
        else:
            item = _Item(pod, fd, self._data.tmp, name)
        trace("gc:deleting")
        self._start(item)

    def take_abandoned(self) -> None:
        """Take what nobody deletes any more, and folders that were to become pods and whose maker is gone."""
        try:
            names = os.listdir(self._data.tmp)
        except FileNotFoundError:
            return
        for name in names:
            if name.startswith(DELETING) and is_uuid(uuid := name.removeprefix(DELETING)):
                try:
                    fd = lock.try_lock(os.path.join(self._data.tmp, name))
                except FileNotFoundError:
                    continue
                if fd is not None:
                    pod = PodRef(GARBAGE, uuid, self._data.pod(GARBAGE, uuid))
                    self._start(_Item(pod, fd, self._data.tmp, name))
            elif name.startswith(_MAKING) and is_uuid(name.removeprefix(_MAKING)):
                self._remove_abandoned(os.path.join(self._data.tmp, name))

    def _remove_abandoned(self, path: str) -> None:
        """Its maker locks it at once and then renames it; only an empty one is removed."""
        try:
            if grace.seconds_unchanged(path) > _ABANDONED and not lock.is_locked(path):
                os.rmdir(path)
        except OSError:
            pass  # it became a pod

    def _start(self, item: _Item) -> None:
        if self._taken is not None:
            self._taken(item.pod.uuid, os.path.join(item.parent, item.name))
        if not self._apart:
            self._ended(item, removed(item.parent, item.name))
            return
        if self._remover is None:
            self._remover = Remover()
        self._pending.append(item)
        self._remover.begin(item.parent, item.name)
        while self._pending and (len(self._pending) >= _WAITING or self._remover.ready()):
            self._settle()

    def _settle(self) -> None:
        assert self._remover is not None
        self._ended(self._pending.popleft(), self._remover.result())

    def _ended(self, item: _Item, error: PodiumError | OSError | None) -> None:
        try:
            if error is not None:
                # What is left is the pod's, so it must be seen as such.
                os.rename(os.path.join(item.parent, item.name), item.pod.path)
        finally:
            os.close(item.fd)
        self._done(item.pod, error)
        trace("gc:deleted")
