"""Unpacking layers into a rootfs that nothing in them can leave.

The parent folder of each entry is resolved inside the root by the kernel (openat2), and the entry is made in it by
name, never following what lies there. Names that climb (`..`) are refused. Owners, modes, times, hard links, extended
attributes, devices and fifos are kept. Whiteouts (OCI image-spec, layer.md) take effect on lower layers only, wherever
they stand in theirs.
"""

from __future__ import annotations

import bz2
import errno
import gzip
import lzma
import os
import stat
import tarfile
from typing import IO

from podium.errors import BadInput, HostLacks, LimitExceeded
from podium.linux.resolve import make_dirs_in_root, open_in_root
from podium.linux.tree import remove_tree

_WHITEOUT, _OPAQUE = ".wh.", ".wh..wh..opq"
_XATTR = "SCHILY.xattr."
_MAX_PATH = 4096
_CHUNK = 1 << 20


def decompress(f: IO[bytes]) -> IO[bytes]:
    """The stream without its compression, which is told by its first bytes: gzip, bzip2, xz, zstd or none."""
    magic = f.read(6)
    f.seek(-len(magic), os.SEEK_CUR)
    if magic.startswith(b"\x1f\x8b"):
        return gzip.GzipFile(fileobj=f)  # type: ignore[return-value]
    if magic.startswith(b"BZh"):
        return bz2.BZ2File(f)  # type: ignore[return-value]
    if magic.startswith(b"\xfd7zXZ\0"):
        return lzma.LZMAFile(f)  # type: ignore[return-value]
    if magic.startswith(b"\x28\xb5\x2f\xfd"):
        return _zstd(f)
    return f


def _zstd(f: IO[bytes]) -> IO[bytes]:
    try:
        import zstandard
    except ImportError:
        raise HostLacks("the archive is compressed by zstd", hint="pip install 'podium[zstd]'") from None
    reader: IO[bytes] = zstandard.ZstdDecompressor(max_window_size=1 << 27).stream_reader(f, read_across_frames=True)
    return reader


class Unpacker:
    """Applies layers, lowest first, to an empty rootfs.

    Attributes:
        bytes: content of all files written.
        entries: how many there were.
    """

    def __init__(self, root: str, max_bytes: int, max_entries: int) -> None:
        self.bytes = 0
        self.entries = 0
        self._root = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._max_bytes, self._max_entries = max_bytes, max_entries
        self._made: set[str] = set()  # by the current layer
        self._times: dict[str, float] = {}
        self._parent = ("", -1)  # the last parent folder and its descriptor

    def layer(self, f: IO[bytes], *, below: str = "", whiteouts: bool = True) -> None:
        """Apply one archive.

        Args:
            f: tar, perhaps compressed.
            below: take only what is below this folder of the archive (an ACI's `rootfs`).
            whiteouts: `.wh.` names remove what lower layers have.

        Raises:
            BadInput: it is no archive, damaged, or hostile; names the entry.
            LimitExceeded: it is more than the limits allow.
        """
        self._made.clear()
        try:
            with tarfile.open(fileobj=decompress(f), mode="r|", errorlevel=2, errors="surrogateescape") as tar:
                for member in tar:
                    name = self._name(member.name, below)
                    if name is not None:
                        self._entry(tar, member, name, below, whiteouts)
        except (tarfile.TarError, EOFError, lzma.LZMAError, gzip.BadGzipFile, ValueError) as e:
            raise BadInput(f"the archive is damaged: {e}") from None
        except OSError as e:
            if type(e) is OSError and e.errno is None:  # bzip2's and zlib's way of saying it
                raise BadInput(f"the archive is damaged: {e}") from None
            raise

    def finish(self) -> None:
        """Set the folders' times, which making their entries changed, and let go."""
        self._forget_parent()
        for name, mtime in sorted(self._times.items(), reverse=True):
            try:
                fd = open_in_root(self._root, name or ".", os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            except OSError:
                continue  # removed or replaced since
            os.utime(fd, (mtime, mtime))
            os.close(fd)
        os.close(self._root)

    def _name(self, name: str, below: str) -> str | None:
        """The entry's path below the root (empty: the root itself); None for what is not meant."""
        if len(name) > _MAX_PATH:
            raise LimitExceeded(f"an entry's name has {len(name)} bytes: {name[:80]!r}…")
        parts = [part for part in name.split("/") if part not in ("", ".")]
        if ".." in parts:
            raise BadInput(f"the archive has an entry that climbs out: {name!r}", subject=name)
        if below:
            if not parts or parts[0] != below:
                return None
            parts = parts[1:]
        return "/".join(parts)

    def _entry(self, tar: tarfile.TarFile, member: tarfile.TarInfo, name: str, below: str, whiteouts: bool) -> None:
        self.entries += 1
        if self.entries > self._max_entries:
            raise LimitExceeded(f"the image has more than {self._max_entries} entries")
        base = name.rpartition("/")[2]
        if whiteouts and base.startswith(_WHITEOUT):
            self._whiteout(name, base)
            return
        try:
            self._make(tar, member, name, below)
        except OSError as e:
            if e.errno in (errno.ELOOP, errno.ENOTDIR, errno.EXDEV, errno.ENAMETOOLONG):
                raise BadInput(f"entry {member.name!r} can't be unpacked: {e.strerror}", subject=member.name) from None
            raise
        self._made.add(name)

    def _folder(self, path: str) -> int:
        """A descriptor of a parent folder, made if need be; kept until something replaces a folder or link."""
        if self._parent[1] < 0 or self._parent[0] != path:
            self._forget_parent()
            try:
                fd = open_in_root(self._root, path or ".", os.O_RDONLY | os.O_DIRECTORY)
            except FileNotFoundError:
                os.close(make_dirs_in_root(self._root, path, 0o755))
                fd = open_in_root(self._root, path, os.O_RDONLY | os.O_DIRECTORY)
            self._parent = (path, fd)
        return self._parent[1]

    def _forget_parent(self) -> None:
        if self._parent[1] >= 0:
            os.close(self._parent[1])
        self._parent = ("", -1)

    def _make(self, tar: tarfile.TarFile, member: tarfile.TarInfo, name: str, below: str) -> None:
        if not name:
            self._attributes(member, self._root)
            self._times[""] = member.mtime
            return
        parent, _, base = name.rpartition("/")
        folder = self._folder(parent)
        self._clear(folder, base, keep_dir=member.isdir())
        if member.isdir():
            if not os.access(base, os.F_OK, dir_fd=folder, follow_symlinks=False):
                os.mkdir(base, 0o700, dir_fd=folder)
            fd = os.open(base, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
            self._attributes(member, fd)
            os.close(fd)
            self._times[name] = member.mtime
        elif member.isreg():
            self._file(tar, member, base, folder)
        elif member.islnk():
            self._hard_link(member, base, folder, below)
        elif member.issym():
            os.symlink(member.linkname, base, dir_fd=folder)
            self._by_name(member, base, folder)
        elif member.ischr() or member.isblk() or member.isfifo():
            kind = stat.S_IFCHR if member.ischr() else stat.S_IFBLK if member.isblk() else stat.S_IFIFO
            device = 0 if member.isfifo() else os.makedev(member.devmajor, member.devminor)
            os.mknod(base, kind | 0o600, device, dir_fd=folder)
            self._by_name(member, base, folder)
            os.chmod(base, member.mode & 0o7777, dir_fd=folder)
        else:
            raise BadInput(f"entry {member.name!r} is of an unknown kind {member.type!r}", subject=member.name)

    def _file(self, tar: tarfile.TarFile, member: tarfile.TarInfo, base: str, folder: int) -> None:
        self.bytes += member.size
        if self.bytes > self._max_bytes:
            raise LimitExceeded(f"the image unpacks to more than {self._max_bytes} bytes")
        content = tar.extractfile(member)
        assert content is not None
        fd = os.open(base, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=folder)
        try:
            written = 0
            while chunk := content.read(_CHUNK):
                if not chunk.strip(b"\0"):  # a hole, as in sparse files
                    os.lseek(fd, len(chunk), os.SEEK_CUR)
                else:
                    view = memoryview(chunk)
                    while view:
                        view = view[os.write(fd, view) :]
                written += len(chunk)
            os.ftruncate(fd, written)
            self._attributes(member, fd)
            os.utime(fd, (member.mtime, member.mtime))
        finally:
            os.close(fd)

    def _hard_link(self, member: tarfile.TarInfo, base: str, folder: int, below: str) -> None:
        target = self._name(member.linkname, below)
        if not target:
            raise BadInput(f"entry {member.name!r} is a hard link out of the image: {member.linkname!r}")
        parent, _, name = target.rpartition("/")
        try:
            source = open_in_root(self._root, parent or ".", os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.link(name, base, src_dir_fd=source, dst_dir_fd=folder, follow_symlinks=False)
            finally:
                os.close(source)
        except (FileNotFoundError, PermissionError) as e:
            raise BadInput(
                f"entry {member.name!r} is a hard link to {member.linkname!r}: {e.strerror}", subject=member.name
            ) from None

    def _attributes(self, member: tarfile.TarInfo, fd: int) -> None:
        os.fchown(fd, member.uid, member.gid)
        os.fchmod(fd, member.mode & 0o7777)
        for key, value in member.pax_headers.items():
            if key.startswith(_XATTR):  # after the owner: a change of owner drops capabilities
                os.setxattr(fd, key.removeprefix(_XATTR), value.encode("utf-8", "surrogateescape"))

    def _by_name(self, member: tarfile.TarInfo, base: str, folder: int) -> None:
        os.chown(base, member.uid, member.gid, dir_fd=folder, follow_symlinks=False)
        os.utime(base, (member.mtime, member.mtime), dir_fd=folder, follow_symlinks=False)

    def _clear(self, folder: int, base: str, *, keep_dir: bool) -> None:
        """Make room for an entry: what has its name goes, but a folder for a folder."""
        try:
            there = os.stat(base, dir_fd=folder, follow_symlinks=False)
        except FileNotFoundError:
            return
        if stat.S_ISDIR(there.st_mode):
            if not keep_dir:
                remove_tree(folder, base)
        else:
            os.unlink(base, dir_fd=folder)

    def _whiteout(self, name: str, base: str) -> None:
        parent = name.rpartition("/")[0]
        try:
            folder = open_in_root(self._root, parent or ".", os.O_RDONLY | os.O_DIRECTORY)
        except OSError:
            return  # nothing there to hide
        try:
            if base == _OPAQUE:
                for child in os.listdir(folder):
                    self._hide(folder, child, f"{parent}/{child}".lstrip("/"))
            else:
                child = base.removeprefix(_WHITEOUT)
                if child in ("", ".", ".."):
                    raise BadInput(f"the archive has a whiteout of nothing: {name!r}", subject=name)
                self._hide(folder, child, f"{parent}/{child}".lstrip("/"))
        finally:
            os.close(folder)

    def _hide(self, folder: int, base: str, name: str) -> None:
        """Remove what lower layers made; what this one made, or made something in, stays."""
        inside = [made for made in self._made if made == name or made.startswith(name + "/")]
        try:
            if not inside:
                if stat.S_ISDIR(os.stat(base, dir_fd=folder, follow_symlinks=False).st_mode):
                    self._forget_parent()
                    remove_tree(folder, base)
                else:
                    os.unlink(base, dir_fd=folder)
                return
            fd = os.open(base, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
        except (FileNotFoundError, NotADirectoryError):
            return
        try:
            for child in os.listdir(fd):
                self._hide(fd, child, f"{name}/{child}")
        finally:
            os.close(fd)
