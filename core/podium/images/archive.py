"""Files of an image by name, from a folder or from a tar archive, without unpacking it."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager

from podium.errors import BadInput, LimitExceeded
from podium.linux.resolve import open_beneath
from podium.store.limits import MAX_ENTRIES, Limits, located
from podium.store.unpack import tar
from podium.store.unpack.streams import CHUNK, MAGIC_BYTES, compression, decompressed
from podium.store.workspace import Workspace

_MAX_LINKS = 8
_SMALL = 1 << 16  # bytes read at once where headers are looked for


class Part:
    """A part of a file, read on its own."""

    def __init__(self, fd: int, offset: int, size: int, *, owned: bool = False) -> None:
        self._fd, self._at, self.size, self._left, self._owned = fd, offset, size, size, owned

    def read(self, size: int, /) -> bytes:
        """At most `size` bytes; none at the end."""
        data = os.pread(self._fd, min(size, self._left), self._at)
        self._at += len(data)
        self._left -= len(data)
        return data

    def __enter__(self) -> Part:
        return self

    def __exit__(self, *_: object) -> None:
        if self._owned:
            os.close(self._fd)


class SeekingSource:
    """A plain file, in which a tar reader can leap over what nobody wants."""

    def __init__(self, fd: int) -> None:
        self._fd, self._at, self._end = fd, 0, os.fstat(fd).st_size

    def read(self, size: int, /) -> bytes:
        """At most `size` bytes; none at the end."""
        data = os.pread(self._fd, min(size, _SMALL), self._at)
        self._at += len(data)
        return data

    def skip(self, size: int) -> int:
        """Leap over `size` bytes; returns how many there were."""
        size = min(size, self._end - self._at)
        self._at += size
        return size


class Archive:
    """A folder or a tar archive.

    Raises:
        BadInput: it is no archive, or names a file twice.
    """

    def __init__(self, path: str, workspace: Workspace, limits: Limits) -> None:
        self.path = path
        self._files: dict[str, tuple[int, int]] | None = None
        self._links: dict[str, str] = {}
        self._fd = -1
        if os.path.isdir(path):
            self._fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            return
        self._files = {}
        try:
            self._fd = _plain(path, workspace, limits)
            self._scan(limits)
        except BadInput as e:
            self.close()
            raise located(e, path) from None
        except BaseException:
            self.close()
            raise

    def _scan(self, limits: Limits) -> None:
        assert self._files is not None
        reader = tar.Reader(SeekingSource(self._fd), limits)
        for entry in reader:
            name = _plain_name(entry.name)
            if entry.kind in (tar.SYMLINK, tar.HARDLINK):
                base = os.path.dirname(name) if entry.kind == tar.SYMLINK else ""
                self._links[name] = os.path.normpath(os.path.join(base, entry.link))
            elif entry.kind == tar.FILE and entry.sparse is None:
                if name in self._files and not name.startswith("blobs/"):
                    raise BadInput(f"{name} is in the archive twice", subject=self.path)
                self._files[name] = (reader.position, entry.size)
            if reader.seen > limits.max_entries:
                raise LimitExceeded(f"more than {limits.max_entries} entries", subject=self.path, hint=MAX_ENTRIES)

    def has(self, name: str) -> bool:
        """Whether there is such a file."""
        try:
            with self.open(name):
                return True
        except BadInput:
            return False

    def open(self, name: str) -> Part:
        """A file's content.

        Raises:
            BadInput: there is no such file.
        """
        if self._files is not None:
            found, links = name, 0
            while found in self._links and links < _MAX_LINKS:
                found, links = self._links[found], links + 1
            if found not in self._files:
                raise BadInput(f"{self.path} has no {name}", subject=self.path)
            return Part(self._fd, *self._files[found])
        try:
            fd = open_beneath(self._fd, name, os.O_RDONLY | os.O_NONBLOCK)
        except OSError as e:
            why = "" if isinstance(e, FileNotFoundError) else f" that can be read: {e.strerror}"
            raise BadInput(f"{self.path} has no {name}{why}", subject=self.path) from None
        st = os.fstat(fd)
        if not stat.S_ISREG(st.st_mode):
            os.close(fd)
            raise BadInput(f"{self.path}: {name} is no file", subject=self.path)
        return Part(fd, 0, st.st_size, owned=True)

    def close(self) -> None:
        """Let go of it."""
        if self._fd >= 0:
            os.close(self._fd)


def _plain_name(name: str) -> str:
    while name.startswith("./"):
        name = name[2:]
    return name.rstrip("/")


def _plain(path: str, workspace: Workspace, limits: Limits) -> int:
    """A descriptor of the archive without its compression, for which it is copied."""
    with open(path, "rb") as f:
        magic = f.read(MAGIC_BYTES)
        f.seek(0)
        if compression(magic) == "none":
            return os.dup(f.fileno())
        copy = os.path.join(workspace.path, "archive")
        source = decompressed(f, limits)
        with open(copy, "w+b", buffering=0) as out:
            os.unlink(copy)
            while chunk := source.read(CHUNK):
                left = memoryview(chunk)
                while left:
                    left = left[out.write(left) :]
            return os.dup(out.fileno())


@contextmanager
def opened(path: str, workspace: Workspace, limits: Limits) -> Iterator[Archive]:
    """An archive, for a while."""
    archive = Archive(path, workspace, limits)
    try:
        yield archive
    finally:
        archive.close()
