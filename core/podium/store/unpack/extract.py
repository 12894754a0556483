"""Unpacking layers into a rootfs that nothing in them can leave.

The parent folder of each entry is resolved inside the root by the kernel (openat2); the entry is made in it by name,
exclusively, and never through what lies there. Names that climb (`..`) are refused. Owners, modes, times, hard links,
holes, extended attributes, devices and fifos are as the archive says; folders that it does not mention are root's, of
mode 0755 and 1970, so that the same layers always give the same tree.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable

from podium.errors import BadInput, LimitExceeded
from podium.linux.resolve import open_in_root
from podium.linux.tree import remove_tree
from podium.store.limits import MAX_BYTES, MAX_ENTRIES, Limits
from podium.store.unpack import tar, whiteouts
from podium.store.unpack.attributes import Xattrs
from podium.store.unpack.folders import FOLDER, Folders
from podium.store.unpack.reading import Reading

# What an entry can make a call fail with; anything else is the host's fault.
_ENTRYS_FAULT = frozenset(
    (errno.ELOOP, errno.ENOTDIR, errno.EISDIR, errno.EXDEV, errno.ENAMETOOLONG, errno.EINVAL, errno.EFBIG, errno.EMLINK,
     errno.EEXIST, errno.ENOTEMPTY, errno.ENOENT, errno.ERANGE, errno.E2BIG, errno.EOVERFLOW)
)  # fmt: skip
_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC

_REMEMBERED = 50_000  # digests; each takes some 200 bytes

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
        digests: inode → sha256 of what was written to it, of the small files, for `content.digest`.
    """

    def __init__(self, root: str, limits: Limits, progress: Callable[[int], None] = lambda size: None) -> None:
        self.bytes = self.entries = self._apparent = 0
        self._limits, self._progress = limits, progress
        self._xattrs = Xattrs()
        self.dropped = self._xattrs.dropped
        self._folders = Folders(root, limits, self._xattrs, self._count)
        self._hidden: whiteouts.Whiteouts | None = None  # of the layer, if it has whiteouts
        self._layers = 0
        self.digests: dict[int, bytes] = {}

    def __enter__(self) -> Extractor:
        return self

    def __exit__(self, *_: object) -> None:
        self._folders.close()

    def layer(self, archive: Reading, *, select: Select = clean, hides: bool = False) -> None:
        """Apply one archive.

        Args:
            archive: the next of its archives is read to its end.
            select: gives an entry's path in the root by its name in the archive, or None if it is not wanted.
            hides: `.wh.` names hide what lower layers have.

        Raises:
            BadInput: it is no archive, damaged, or hostile; names the entry.
            LimitExceeded: it is more than the limits allow.
            OSError: of the call that failed: the host's fault.
        """
        lowest = self._layers == 0
        self._hidden = whiteouts.Whiteouts(self._folders, self._limits, lowest=lowest) if hides else None
        self._layers += 1
        for entry in archive:
            if self._folders.moved:
                self._folders.forget()
            path = select(entry.name)
            if path is None:
                continue
            self._count()
            try:
                self._apply(archive, entry, path, select)
            except OSError as e:
                if e.errno not in _ENTRYS_FAULT:
                    raise
                reason = os.strerror(e.errno or 0)
                raise BadInput(f"entry {entry.name[:200]!r} can't be unpacked: {reason}", subject=entry.name) from None
            except ValueError as e:
                raise BadInput(f"entry {entry.name[:200]!r} can't be unpacked: {e}", subject=entry.name) from None

    def finish(self) -> None:
        """Set what making the entries of folders has changed. Raises LimitExceeded: folders are nested too deep."""
        self._folders.finish()

    def _count(self) -> None:
        self.entries += 1
        if self.entries > self._limits.max_entries:
            raise LimitExceeded(f"the image has more than {self._limits.max_entries} entries", hint=MAX_ENTRIES)

    def _apply(self, archive: Reading, entry: tar.Entry, path: str, select: Select) -> None:
        if not path:
            if entry.kind != tar.DIR:
                raise BadInput(f"entry {entry.name!r}, a {entry.kind}, is the root itself", subject=entry.name)
            self._dir_attributes(entry, self._folders.root, known=True)
            return
        parent, _, name = path.rpartition("/")
        if self._hidden is not None and name.startswith(whiteouts.PREFIX):
            self._hidden.apply(parent, name)
            return
        source = self._link_source(entry, select) if entry.kind == tar.HARDLINK else None
        folder, inode = self._folders.parent(parent)
        try:
            if self._hidden is not None:
                self._hidden.keep(inode, name)
            for attempt in (0, 1):
                try:
                    self._make(archive, entry, folder, name, source)
                    return
                except FileExistsError:
                    if attempt:
                        raise
                    if not self._make_room(entry, folder, name, source):
                        return
        finally:
            if source is not None:
                os.close(source[0])

    def _make(self, archive: Reading, entry: tar.Entry, folder: int, name: str, source: tuple[int, str] | None) -> None:
        match entry.kind:
            case tar.FILE:
                self._file(archive, entry, folder, name)
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
            self._folders.moved = True
            return True
        if source is not None:
            target = os.stat(source[1], dir_fd=source[0], follow_symlinks=False)
            if (target.st_dev, target.st_ino) == (there.st_dev, there.st_ino):
                return False
        os.unlink(name, dir_fd=folder)
        self._folders.moved |= stat.S_ISLNK(there.st_mode)
        return True

    def _dir(self, entry: tar.Entry, folder: int, name: str, *, known: bool) -> None:
        fd = os.open(name, FOLDER | os.O_NOFOLLOW, dir_fd=folder)
        try:
            self._dir_attributes(entry, fd, known=known)
        finally:
            os.close(fd)

    def _dir_attributes(self, entry: tar.Entry, fd: int, *, known: bool) -> None:
        self._folders.set_attributes(fd, entry.uid, entry.gid, entry.mode, entry.mtime, entry.xattrs, known=known)

    def _file(self, archive: Reading, entry: tar.Entry, folder: int, name: str) -> None:
        fd = os.open(name, _NEW_FILE, entry.mode & 0o777, dir_fd=folder)
        try:
            self.bytes += entry.stored
            self._apparent += entry.size
            if self.bytes > self._limits.max_bytes:
                raise LimitExceeded(f"the image unpacks to more than {self._limits.max_bytes} bytes", hint=MAX_BYTES)
            if self._apparent > self._limits.max_apparent:
                raise LimitExceeded(f"the image's files are larger than {self._limits.max_apparent} bytes, with holes")
            made = os.fstat(fd)
            if entry.sparse is None:
                self._write_all(fd, made.st_ino, archive)
            else:
                self.digests.pop(made.st_ino, None)
                os.ftruncate(fd, entry.size)
                _write_parts(fd, archive, entry.sparse)
            if (made.st_uid, made.st_gid) != (entry.uid, entry.gid):
                os.fchown(fd, entry.uid, entry.gid)
            if entry.xattrs:
                self._xattrs.set(fd, entry.xattrs)  # after the owner, whose change drops capabilities
            if made.st_mode & 0o7777 != entry.mode or entry.xattrs:
                os.fchmod(fd, entry.mode)
            os.utime(fd, ns=(entry.mtime, entry.mtime))
        finally:
            os.close(fd)
        self._progress(entry.stored)

    def _write_all(self, fd: int, inode: int, archive: Reading) -> None:
        for chunk in archive.content():
            _write(fd, chunk)
        digest = archive.digest if len(self.digests) < _REMEMBERED else None
        if digest is not None:
            self.digests[inode] = digest
        else:
            self.digests.pop(inode, None)  # of a file that was removed

    def _attributes_by_name(self, entry: tar.Entry, folder: int, name: str) -> None:
        os.chown(name, entry.uid, entry.gid, dir_fd=folder, follow_symlinks=False)
        if entry.xattrs:
            self._xattrs.set(f"/proc/self/fd/{folder}/{name}", entry.xattrs)
        if entry.kind != tar.SYMLINK:
            os.chmod(name, entry.mode, dir_fd=folder)
        os.utime(name, ns=(entry.mtime, entry.mtime), dir_fd=folder, follow_symlinks=False)

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
            fd = open_in_root(self._folders.root, parent or ".", FOLDER)
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


def _write(fd: int, chunk: memoryview) -> None:
    while chunk:
        chunk = chunk[os.write(fd, chunk) :]


def _write_parts(fd: int, archive: Reading, parts: list[tuple[int, int]]) -> None:
    at = iter(parts)
    left = 0
    for chunk in archive.content():
        while chunk:
            if not left:
                offset, left = next(at)
                os.lseek(fd, offset, os.SEEK_SET)
            piece, chunk = chunk[:left], chunk[left:]
            left -= len(piece)
            _write(fd, piece)
