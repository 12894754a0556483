"""The folders of a rootfs that is being unpacked: opened inside the root, made where they are missing.

What making their entries would change, or what would change their entries, is set at the end: times, and the access
control lists that new entries inherit.
"""

from __future__ import annotations

import os
from collections.abc import Callable

from podium.errors import LimitExceeded
from podium.linux.resolve import make_dirs_in_root, open_in_root
from podium.store.limits import Limits
from podium.store.unpack.attributes import Xattrs

FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_INHERITED = "system.posix_acl_default"
_KEPT_OPEN = 64
_IMPLIED_MODE = 0o755


class Folders:
    """Those of one rootfs.

    Attributes:
        root: its descriptor.
        root_inode: its inode.
        moved: a folder or link was replaced: paths may lead elsewhere, and `forget` has to be called.
    """

    def __init__(self, root: str, limits: Limits, xattrs: Xattrs, count: Callable[[], None]) -> None:
        self.moved = False
        self._limits, self._xattrs, self._count = limits, xattrs, count
        self._open: dict[str, tuple[int, int]] = {}  # path → descriptor and inode, the last used last
        self._times: dict[int, int] = {}  # inode → nanoseconds
        self._acls: dict[int, bytes] = {}  # inode → what new entries would inherit
        self.root = os.open(root, FOLDER)
        self.root_inode = os.fstat(self.root).st_ino
        os.fchmod(self.root, _IMPLIED_MODE)
        self._times[self.root_inode] = 0

    def close(self) -> None:
        """Let go of all."""
        self.forget()
        os.close(self.root)

    def forget(self) -> None:
        """Resolve every path anew."""
        for fd, _ in self._open.values():
            os.close(fd)
        self._open.clear()
        self.moved = False

    def parent(self, path: str) -> tuple[int, int]:
        """Descriptor and inode of a folder, which is made if it is missing; valid until the next call of a method."""
        if not path:
            return self.root, self.root_inode
        known = self._open.pop(path, None)
        if known is None:
            try:
                fd = open_in_root(self.root, path, FOLDER)
            except FileNotFoundError:
                fd = self._make(path)
            known = fd, os.fstat(fd).st_ino
            if len(self._open) >= _KEPT_OPEN:
                os.close(self._open.pop(next(iter(self._open)))[0])
        self._open[path] = known
        return known

    def _make(self, path: str) -> int:
        if path.count("/") >= self._limits.max_depth:
            raise LimitExceeded(f"folders are nested deeper than {self._limits.max_depth}: {path[:80]!r}…")
        above, _, name = path.rpartition("/")
        folder, _ = self.parent(above)
        self._count()
        try:
            os.mkdir(name, 0o700, dir_fd=folder)
        except FileExistsError:  # a link that leads nowhere yet: what it names is made, in the root
            os.close(make_dirs_in_root(self.root, path, 0o700))
        fd = open_in_root(self.root, path, FOLDER)
        self.imply(fd)
        return fd

    def imply(self, fd: int) -> None:
        """Give a folder the attributes of one that no layer mentions."""
        self.set_attributes(fd, 0, 0, _IMPLIED_MODE, 0, {}, known=True)

    def set_attributes(
        self, fd: int, uid: int, gid: int, mode: int, mtime: int, xattrs: dict[str, bytes], *, known: bool
    ) -> None:
        """Give a folder what the archive says; `known`: it was there before, and loses what it had."""
        os.fchown(fd, uid, gid)
        inode = os.fstat(fd).st_ino
        self._acls.pop(inode, None)
        if xattrs or known:
            if inherited := xattrs.get(_INHERITED):
                self._acls[inode] = inherited
                xattrs = {name: value for name, value in xattrs.items() if name != _INHERITED}
            self._xattrs.set(fd, xattrs, known=known)
        os.fchmod(fd, mode)
        self._times[inode] = mtime

    def finish(self) -> None:
        """Set the folders' times and lists.

        Raises:
            LimitExceeded: folders are nested too deep.
        """
        self.forget()
        self._finish(self.root, 0)

    def _finish(self, fd: int, depth: int) -> None:
        if depth > self._limits.max_depth:
            raise LimitExceeded(f"folders are nested deeper than {self._limits.max_depth}")
        with os.scandir(fd) as entries:
            names = [e.name for e in entries if e.is_dir(follow_symlinks=False)]
        for name in names:
            child = os.open(name, FOLDER | os.O_NOFOLLOW, dir_fd=fd)
            try:
                self._finish(child, depth + 1)
            finally:
                os.close(child)
        inode = os.fstat(fd).st_ino
        if acl := self._acls.get(inode):
            self._xattrs.set(fd, {_INHERITED: acl})
        when = self._times.get(inode, 0)
        os.utime(fd, ns=(when, when))
