"""The digest of a tree's content: equal for equal trees, whatever file system they are on.

It covers every entry, sorted by path: kind, permission bits, owner, size, content, link target, device, extended
attributes, and which names are links to one file; not times, which are no content. A file's content is digested in
chunks of 1 MiB, so that a hole costs nothing.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections.abc import Mapping
from typing import NamedTuple

from podium.errors import LimitExceeded
from podium.store.limits import Limits

VERSION = 1  # of the rules above
CHUNK = 1 << 20
_NOTHING: Mapping[int, bytes] = {}
_ZEROS = hashlib.sha256(bytes(CHUNK)).digest()
_SHORT = 800  # characters of a path, at most four bytes each: less than PATH_MAX with what is before it
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Content(NamedTuple):
    """`digest` is `sha256:<hex>`; `bytes` of all files, each counted once; `entries` with the root."""

    digest: str
    bytes: int
    entries: int


def digest(root: str, limits: Limits, known: Mapping[int, bytes] = _NOTHING) -> Content:
    """The content of the tree at `root`.

    Args:
        root: its folder.
        limits: max_depth holds.
        known: inode → sha256 of the content of files of at most CHUNK bytes, which are not read then.

    Raises:
        LimitExceeded: folders are nested too deep.
        OSError: of the call that failed.
    """
    walk = _Walk(root, limits, known)
    fd = os.open(root, _FOLDER)
    try:
        walk.add("", os.fstat(fd), [b"", *_xattrs(fd)])
        walk.folder(fd, "", 0)
    finally:
        os.close(fd)
    return Content("sha256:" + walk.sha.hexdigest(), walk.bytes, walk.entries)


class _Walk:
    def __init__(self, root: str, limits: Limits, known: Mapping[int, bytes]) -> None:
        self.sha = hashlib.sha256(b"podium-tree-%d\n" % VERSION)
        self.bytes = self.entries = 0
        self._root, self._limits, self._known = root, limits, known
        self._linked: dict[tuple[int, int], bytes] = {}

    def add(self, path: str, st: os.stat_result, more: list[bytes]) -> None:
        fields = [os.fsencode(path), b"%o %d %d" % (st.st_mode, st.st_uid, st.st_gid), *more]
        self.sha.update(b"".join([b"%d:%b," % (len(f), f) for f in fields]) + b"\n")
        self.entries += 1

    def folder(self, fd: int, path: str, depth: int) -> None:
        if depth > self._limits.max_depth:
            raise LimitExceeded(f"folders are nested deeper than {self._limits.max_depth}")
        for name in sorted(os.listdir(fd), key=os.fsencode):
            st = os.stat(name, dir_fd=fd, follow_symlinks=False)
            where = f"{path}/{name}"
            if stat.S_ISDIR(st.st_mode):
                child = os.open(name, _FOLDER, dir_fd=fd)
                try:
                    self.add(where, st, [b"", *_xattrs(child)])
                    self.folder(child, where, depth + 1)
                finally:
                    os.close(child)
            elif stat.S_ISREG(st.st_mode):
                self._file(fd, name, where, st)
            else:
                is_link = stat.S_ISLNK(st.st_mode)
                what = os.fsencode(os.readlink(name, dir_fd=fd)) if is_link else b"%d" % st.st_rdev
                self.add(where, st, [what, *self._other_name(where, st), *_xattrs(f"/proc/self/fd/{fd}/{name}")])

    def _other_name(self, path: str, st: os.stat_result) -> list[bytes]:
        """The first name of a file that has several."""
        if st.st_nlink == 1:
            return []
        return [b"=" + self._linked.setdefault((st.st_dev, st.st_ino), os.fsencode(path))]

    def _file(self, folder: int, name: str, path: str, st: os.stat_result) -> None:
        if st.st_nlink > 1 and (st.st_dev, st.st_ino) in self._linked:
            self.add(path, st, self._other_name(path, st))
            return
        self.bytes += st.st_size
        size, sha = b"%d" % st.st_size, self._known.get(st.st_ino)
        if sha is not None:
            # what is known was unpacked just now, where nobody else comes: its whole path is safe, and the fastest way
            where = self._root + path if len(path) < _SHORT else f"/proc/self/fd/{folder}/{name}"
            self.add(path, st, [size, sha, *self._other_name(path, st), *_xattrs(where)])
            return
        fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
        try:
            self.add(path, st, [size, _content(fd, st), *self._other_name(path, st), *_xattrs(fd)])
        finally:
            os.close(fd)


def _content(fd: int, st: os.stat_result) -> bytes:
    if st.st_size <= CHUNK:
        return hashlib.sha256(os.read(fd, st.st_size)).digest()
    sha, at, has_holes = hashlib.sha256(), 0, st.st_blocks * 512 < st.st_size
    data_at = 0
    while at < st.st_size:
        size = min(CHUNK, st.st_size - at)
        if has_holes and data_at <= at:
            data_at = _next_data(fd, at, st.st_size)
        if data_at >= at + size:
            sha.update(_ZEROS if size == CHUNK else hashlib.sha256(bytes(size)).digest())
        else:
            sha.update(hashlib.sha256(os.pread(fd, size, at)).digest())
        at += size
    return sha.digest()


def _next_data(fd: int, at: int, end: int) -> int:
    try:
        return os.lseek(fd, at, os.SEEK_DATA)
    except OSError as e:
        if e.errno != errno.ENXIO:
            raise
        return end


def _xattrs(where: int | str) -> list[bytes]:
    follow = isinstance(where, int)
    try:
        names = os.listxattr(where) if follow else os.listxattr(where, follow_symlinks=False)
    except OSError as e:
        if e.errno != errno.ENOTSUP:
            raise
        return []
    result = []
    for name in sorted(names):
        value = os.getxattr(where, name) if follow else os.getxattr(where, name, follow_symlinks=False)
        result.append(b"%b=%b" % (os.fsencode(name), value))
    return result
