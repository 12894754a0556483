"""Whiteouts (OCI image-spec, layer.md): they hide what lower layers have, and never what their own layer brings."""

from __future__ import annotations

import errno
import os
import stat

from podium.errors import BadInput, LimitExceeded
from podium.linux.resolve import open_in_root
from podium.linux.tree import remove_tree
from podium.store.limits import Limits
from podium.store.unpack.folders import FOLDER, Folders

PREFIX = ".wh."
_OPAQUE, _META = ".wh..wh..opq", ".wh..wh."


class Whiteouts:
    """Those of one layer; the lowest has nothing to hide."""

    def __init__(self, folders: Folders, limits: Limits, *, lowest: bool) -> None:
        self._folders, self._limits, self._lowest = folders, limits, lowest
        self._fresh: set[tuple[int, str]] = set()  # parent's inode and name, of what this layer made

    def keep(self, inode: int, name: str) -> None:
        """This layer brings `name`, in the folder with this inode."""
        if not self._lowest:
            self._fresh.add((inode, name))

    def apply(self, parent: str, name: str) -> None:
        """Do what an entry of this name in the folder `parent` says. Raises BadInput: it hides nothing."""
        if name != _OPAQUE and name.startswith(_META):
            return  # aufs's own bookkeeping, of no meaning to others
        hidden = name.removeprefix(PREFIX)
        if hidden in ("", ".", ".."):
            raise BadInput(f"the archive has a whiteout of nothing: {name!r}", subject=name)
        if self._lowest:
            return
        try:
            folder = open_in_root(self._folders.root, parent or ".", FOLDER)
        except (FileNotFoundError, NotADirectoryError):
            return  # nothing there to hide
        try:
            inode = os.fstat(folder).st_ino
            for child in os.listdir(folder) if name == _OPAQUE else [hidden]:
                self._hide(folder, inode, child, 0)
        finally:
            os.close(folder)

    def _hide(self, folder: int, inode: int, name: str, depth: int) -> None:
        """Remove what lower layers have of `name`."""
        if depth > self._limits.max_depth:
            raise LimitExceeded(f"folders are nested deeper than {self._limits.max_depth}")
        try:
            there = os.stat(name, dir_fd=folder, follow_symlinks=False)
        except FileNotFoundError:
            return
        fresh = (inode, name) in self._fresh
        if not stat.S_ISDIR(there.st_mode):
            if not fresh:
                os.unlink(name, dir_fd=folder)
                self._folders.moved |= stat.S_ISLNK(there.st_mode)
            return
        if not self._fresh:
            remove_tree(folder, name)
            self._folders.moved = True
            return
        fd = os.open(name, FOLDER | os.O_NOFOLLOW, dir_fd=folder)
        try:
            for child in os.listdir(fd):
                self._hide(fd, there.st_ino, child, depth + 1)
            if fresh:
                return
            self._folders.moved = True
            try:
                os.rmdir(name, dir_fd=folder)
            except OSError as e:
                if e.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                    raise
                self._folders.imply(fd)  # the lower folder is hidden; this layer has something in one of the same name
        finally:
            os.close(fd)
