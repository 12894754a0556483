"""Unpacking layers into a rootfs that nothing in them can leave.

The parent folder of each entry is resolved inside the root by the kernel (openat2); the entry is made in it by name,
exclusively, and never through what lies there. Names that climb (`..`) are refused. Owners, modes, times, hard links,
holes, extended attributes, devices and fifos are as the archive says; folders that it does not mention are root's, of
mode 0755 and 1970, so that the same layers always give the same tree.

Whiteouts (OCI image-spec, layer.md) hide what lower layers have, and never what their own layer brings, wherever in it
they stand.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from typing import Any

from podium.errors import BadInput, LimitExceeded
from podium.linux.resolve import make_dirs_in_root, open_in_root
from podium.linux.tree import remove_tree
from podium.store.limits import Limits
from podium.store.unpack import tar

_WHITEOUT, _OPAQUE, _META = ".wh.", ".wh..wh..opq", ".wh..wh."
# The host's, or overlayfs's own: an image that brings them could redirect a layer, or label its files as it likes.
_NOT_KEPT = ("trusted.overlay.", "user.overlay.", "security.selinux", "security.ima", "security.evm")
# What an entry can make a call fail with; anything else is the host's fault.
_ENTRYS_FAULT = frozenset(
    (errno.ELOOP, errno.ENOTDIR, errno.EISDIR, errno.EXDEV, errno.ENAMETOOLONG, errno.EINVAL, errno.EFBIG, errno.EMLINK,
     errno.EEXIST, errno.ENOTEMPTY, errno.ENOENT, errno.ERANGE, errno.E2BIG, errno.EOVERFLOW)
)  # fmt: skip
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_KEPT_OPEN = 64  # parent folders
_IMPLIED_MODE = 0o755

Select = Callable[[str], "str | None"]


def clean(name: str) -> str:
    """A path of an archive relative to the root; empty for the root itself. Raises BadInput if it climbs."""
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise BadInput(f"the archive has a path that climbs: {name[:200]!r}", subject=name)
    return "/".join(parts)


class Extractor:
    """Applies layers, lowest first, to a rootfs that is empty at first.

    Attributes:
        bytes: content written.
        entries: how many there were, with the folders made for them.
        dropped: names of extended attributes that were not kept, and how often.
    """

    def __init__(self, root: str, limits: Limits, progress: Callable[[int], None] | None = None) -> None:
        self.bytes = self.entries = self._apparent = 0
        self.dropped: dict[str, int] = {}
        self._limits, self._progress = limits, progress
        self._root = os.open(root, _FOLDER)
        self._root_inode = os.fstat(self._root).st_ino
        self._folders: dict[str, tuple[int, int]] = {}  # path → descriptor and inode, the last used last
        self._moved = False  # a folder or link was replaced: paths may lead elsewhere
        self._times: dict[int, int] = {}  # inode of a folder → nanoseconds
        self._fresh: set[tuple[int, str]] | None = None  # parent's inode and name, of what this layer made
        self._layers = 0
        os.fchmod(self._root, _IMPLIED_MODE)
        self._times[self._root_inode] = 0

    def __enter__(self) -> Extractor:
        return self

    def __exit__(self, *_: object) -> None:
        self._forget()
        os.close(self._root)

    def layer(self, source: tar.Source, *, select: Select = clean, whiteouts: bool = False) -> None:
        """Apply one archive.

        Args:
            source: a tar stream without compression; it is read to its end.
            select: gives an entry's path in the root by its name in the archive, or None if it is not wanted.
            whiteouts: `.wh.` names hide what lower layers have.

        Raises:
            BadInput: it is no archive, damaged, or hostile; names the entry.
            LimitExceeded: it is more than the limits allow.
            OSError: of the call that failed: the host's fault.
        """
        self._fresh = set() if whiteouts and self._layers else None
        self._layers += 1
        reader = tar.Reader(source, self._limits)
        for entry in reader:
            if self._moved:
                self._forget()
            path = select(entry.name)
            if path is None:
                continue
            self._count()
            try:
                self._apply(reader, entry, path, select, whiteouts)
            except OSError as e:
                if e.errno not in _ENTRYS_FAULT:
                    raise
                reason = os.strerror(e.errno or 0)
                raise BadInput(f"entry {entry.name[:200]!r} can't be unpacked: {reason}", subject=entry.name) from None
            except ValueError as e:
                raise BadInput(f"entry {entry.name[:200]!r} can't be unpacked: {e}", subject=entry.name) from None
        reader.drain()

    def finish(self) -> None:
        """Set the folders' times, which making their entries has changed.

        Raises:
            LimitExceeded: folders are nested too deep.
        """
        self._forget()
        self._restore_times(self._root, 0)

    def _restore_times(self, fd: int, depth: int) -> None:
        if depth > self._limits.max_depth:
            raise LimitExceeded(f"folders are nested deeper than {self._limits.max_depth}")
        with os.scandir(fd) as entries:
            names = [e.name for e in entries if e.is_dir(follow_symlinks=False)]
        for name in names:
            child = os.open(name, _FOLDER | os.O_NOFOLLOW, dir_fd=fd)
            try:
                self._restore_times(child, depth + 1)
            finally:
                os.close(child)
        when = self._times.get(os.fstat(fd).st_ino, 0)
        os.utime(fd, ns=(when, when))

    def _count(self) -> None:
        self.entries += 1
        if self.entries > self._limits.max_entries:
            raise LimitExceeded(f"the image has more than {self._limits.max_entries} entries")

    def _forget(self) -> None:
        for fd, _ in self._folders.values():
            os.close(fd)
        self._folders.clear()
        self._moved = False

    def _folder(self, path: str) -> tuple[int, int]:
        """Descriptor and inode of a parent folder, which is made if it is missing."""
        if not path:
            return self._root, self._root_inode
        known = self._folders.pop(path, None)
        if known is None:
            try:
                fd = open_in_root(self._root, path, _FOLDER)
            except FileNotFoundError:
                fd = self._make_folder(path)
            known = fd, os.fstat(fd).st_ino
            if len(self._folders) >= _KEPT_OPEN:
                os.close(self._folders.pop(next(iter(self._folders)))[0])
        self._folders[path] = known
        return known

    def _make_folder(self, path: str) -> int:
        if path.count("/") >= self._limits.max_depth:
            raise LimitExceeded(f"folders are nested deeper than {self._limits.max_depth}: {path[:80]!r}…")
        parent, _, name = path.rpartition("/")
        folder, _ = self._folder(parent)
        self._count()
        try:
            os.mkdir(name, 0o700, dir_fd=folder)
        except FileExistsError:  # a link that leads nowhere yet: what it names is made, in the root
            os.close(make_dirs_in_root(self._root, path, 0o700))
        fd = open_in_root(self._root, path, _FOLDER)
        self._imply(fd)
        return fd

    def _imply(self, fd: int) -> None:
        """Give a folder the attributes of one that no layer mentions."""
        os.fchown(fd, 0, 0)
        self._set_xattrs({}, fd, known=True)
        os.fchmod(fd, _IMPLIED_MODE)
        self._times[os.fstat(fd).st_ino] = 0

    def _apply(self, reader: tar.Reader, entry: tar.Entry, path: str, select: Select, whiteouts: bool) -> None:
        if not path:
            if entry.kind != tar.DIR:
                raise BadInput(f"entry {entry.name!r}, a {entry.kind}, is the root itself", subject=entry.name)
            self._dir_attributes(entry, self._root, known=True)
            return
        parent, _, name = path.rpartition("/")
        if whiteouts and name.startswith(_WHITEOUT):
            self._whiteout(parent, name)
            return
        source = self._link_source(entry, select) if entry.kind == tar.HARDLINK else None
        folder, inode = self._folder(parent)
        try:
            if self._fresh is not None:
                self._fresh.add((inode, name))
            for attempt in (0, 1):
                try:
                    self._make(reader, entry, folder, name, source)
                    return
                except FileExistsError:
                    if attempt:
                        raise
                    if not self._make_room(entry, folder, name, source):
                        return
        finally:
            if source is not None:
                os.close(source[0])

    def _make(
        self, reader: tar.Reader, entry: tar.Entry, folder: int, name: str, source: tuple[int, str] | None
    ) -> None:
        match entry.kind:
            case tar.FILE:
                self._file(reader, entry, folder, name)
            case tar.DIR:
                os.mkdir(name, 0o700, dir_fd=folder)
                self._dir(entry, folder, name, known=False)
            case tar.SYMLINK:
                os.symlink(entry.link, name, dir_fd=folder)
                self._attributes_by_name(entry, folder, name)
            case tar.HARDLINK:
                assert source is not None
                try:
                    os.link(source[1], name, src_dir_fd=source[0], dst_dir_fd=folder, follow_symlinks=False)
                except PermissionError:
                    raise BadInput(f"entry {entry.name!r} is a hard link to a folder", subject=entry.name) from None
            case kind:
                type_ = {tar.CHAR: stat.S_IFCHR, tar.BLOCKDEV: stat.S_IFBLK, tar.FIFO: stat.S_IFIFO}[kind]
                os.mknod(name, type_ | 0o600, os.makedev(entry.major, entry.minor), dir_fd=folder)
                self._attributes_by_name(entry, folder, name)

    def _make_room(self, entry: tar.Entry, folder: int, name: str, source: tuple[int, str] | None) -> bool:
        """Remove what has the entry's name; a folder is kept for a folder. False if the entry is there then."""
        there = os.stat(name, dir_fd=folder, follow_symlinks=False)
        if stat.S_ISDIR(there.st_mode):
            if entry.kind == tar.DIR:
                self._dir(entry, folder, name, known=True)
                return False
            remove_tree(folder, name)
            self._moved = True
            return True
        if source is not None:
            target = os.stat(source[1], dir_fd=source[0], follow_symlinks=False)
            if (target.st_dev, target.st_ino) == (there.st_dev, there.st_ino):
                return False
        os.unlink(name, dir_fd=folder)
        self._moved |= stat.S_ISLNK(there.st_mode)
        return True

    def _dir(self, entry: tar.Entry, folder: int, name: str, *, known: bool) -> None:
        fd = os.open(name, _FOLDER | os.O_NOFOLLOW, dir_fd=folder)
        try:
            self._dir_attributes(entry, fd, known=known)
        finally:
            os.close(fd)

    def _dir_attributes(self, entry: tar.Entry, fd: int, *, known: bool) -> None:
        os.fchown(fd, entry.uid, entry.gid)
        if entry.xattrs or known:
            self._set_xattrs(entry.xattrs, fd, known=known)
        os.fchmod(fd, entry.mode)
        self._times[os.fstat(fd).st_ino] = entry.mtime

    def _file(self, reader: tar.Reader, entry: tar.Entry, folder: int, name: str) -> None:
        fd = os.open(name, _NEW_FILE, 0o600, dir_fd=folder)
        try:
            self.bytes += entry.stored
            self._apparent += entry.size
            if self.bytes > self._limits.max_bytes:
                raise LimitExceeded(f"the image unpacks to more than {self._limits.max_bytes} bytes")
            if self._apparent > self._limits.max_apparent:
                raise LimitExceeded(f"the image's files are larger than {self._limits.max_apparent} bytes, with holes")
            if entry.sparse is None:
                for chunk in reader.content():
                    _write(fd, chunk)
            else:
                os.ftruncate(fd, entry.size)
                _write_parts(fd, reader, entry.sparse)
            os.fchown(fd, entry.uid, entry.gid)
            if entry.xattrs:
                self._set_xattrs(entry.xattrs, fd)  # after the owner, whose change drops capabilities
            os.fchmod(fd, entry.mode)
            os.utime(fd, ns=(entry.mtime, entry.mtime))
        finally:
            os.close(fd)
        if self._progress is not None:
            self._progress(entry.stored)

    def _attributes_by_name(self, entry: tar.Entry, folder: int, name: str) -> None:
        os.chown(name, entry.uid, entry.gid, dir_fd=folder, follow_symlinks=False)
        if entry.xattrs:
            self._set_xattrs(entry.xattrs, f"/proc/self/fd/{folder}/{name}")
        if entry.kind != tar.SYMLINK:
            os.chmod(name, entry.mode, dir_fd=folder)
        os.utime(name, ns=(entry.mtime, entry.mtime), dir_fd=folder, follow_symlinks=False)

    def _set_xattrs(self, xattrs: dict[str, bytes], where: int | str, *, known: bool = False) -> None:
        follow: Any = {} if isinstance(where, int) else {"follow_symlinks": False}
        if known:
            for name in os.listxattr(where, **follow):
                if name not in xattrs:
                    os.removexattr(where, name, **follow)
        for name, value in xattrs.items():
            if name.startswith(_NOT_KEPT):
                self._drop(name)
                continue
            try:
                os.setxattr(where, name, value, **follow)
            except OSError as e:
                if e.errno not in (errno.ENOTSUP, errno.EPERM):
                    raise
                self._drop(name)

    def _drop(self, name: str) -> None:
        if name in self.dropped or len(self.dropped) < 100:
            self.dropped[name] = self.dropped.get(name, 0) + 1

    def _link_source(self, entry: tar.Entry, select: Select) -> tuple[int, str]:
        """Descriptor of the folder, and the name in it, of what a hard link links to."""
        path = select(entry.link) if entry.link else None
        if not path:
            raise BadInput(
                f"entry {entry.name[:200]!r} is a hard link to {entry.link[:200]!r}, which is not in the image",
                subject=entry.name,
            )
        parent, _, name = path.rpartition("/")
        try:
            fd = open_in_root(self._root, parent or ".", _FOLDER)
        except OSError:
            fd = -1
        try:
            os.stat(name, dir_fd=fd, follow_symlinks=False)
        except OSError:
            if fd >= 0:
                os.close(fd)
            raise BadInput(
                f"entry {entry.name[:200]!r} is a hard link to {entry.link[:200]!r}, which is not there",
                subject=entry.name,
            ) from None
        return fd, name

    def _whiteout(self, parent: str, name: str) -> None:
        if name != _OPAQUE and name.startswith(_META):
            return  # aufs's own bookkeeping, of no meaning to others
        hidden = name.removeprefix(_WHITEOUT)
        if hidden in ("", ".", ".."):
            raise BadInput(f"the archive has a whiteout of nothing: {name!r}", subject=name)
        if self._fresh is None:
            return  # there is no lower layer
        try:
            folder = open_in_root(self._root, parent or ".", _FOLDER)
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
        assert self._fresh is not None
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
                self._moved |= stat.S_ISLNK(there.st_mode)
            return
        if not self._fresh:
            remove_tree(folder, name)
            self._moved = True
            return
        fd = os.open(name, _FOLDER | os.O_NOFOLLOW, dir_fd=folder)
        try:
            for child in os.listdir(fd):
                self._hide(fd, there.st_ino, child, depth + 1)
            if fresh:
                return
            self._moved = True
            try:
                os.rmdir(name, dir_fd=folder)
            except OSError as e:
                if e.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                    raise
                self._imply(fd)  # the lower folder is hidden; this layer has something in one of the same name
        finally:
            os.close(fd)


def _write(fd: int, chunk: memoryview) -> None:
    while chunk:
        chunk = chunk[os.write(fd, chunk) :]


def _write_parts(fd: int, reader: tar.Reader, parts: list[tuple[int, int]]) -> None:
    at = iter(parts)
    left = 0
    for chunk in reader.content():
        while chunk:
            if not left:
                offset, left = next(at)
                os.lseek(fd, offset, os.SEEK_SET)
            piece, chunk = chunk[:left], chunk[left:]
            left -= len(piece)
            _write(fd, piece)
