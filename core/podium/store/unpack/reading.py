"""Reading apart: a process decompresses, digests and reads archives while its parent makes their files.

Both are much work, half of it Python's: threads would take turns at the interpreter. What the files hold passes through
slots of memory that both see, what there is to know of them through a pipe, a message for each slot that was filled;
through another one the process is told that a slot may be filled again. So it is at most a few slots ahead.
"""

from __future__ import annotations

import hashlib
import marshal
import mmap
import os
import signal
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any

from podium import errors
from podium.errors import Failed, PodiumError
from podium.linux.files import close_all_but
from podium.linux.procs import die_with_parent
from podium.store.limits import Limits
from podium.store.unpack import tar
from podium.store.unpack.content import CHUNK
from podium.store.unpack.streams import Digested, decompressed

_SLOTS, _SLOT = 4, 1 << 20
_MESSAGE, _ENTRY = 1 << 18, 200  # bytes, about, that are told at once, and that an entry takes besides its names
_SIZE = 4  # bytes before a message, that tell its length

# The entry, or None for more of the last one; place and size of its content in the memory; the digest where it ends.
_Item = tuple["tuple[Any, ...] | None", int, int, "bytes | None"]


class Reading:
    """The entries of one archive after the other, as `tar.Reader` gives them; a context manager.

    Each iteration gives one archive's, in the order of the paths. What reading them raises is raised by it.

    Attributes:
        digest: sha256 of the last file's content, all of which was given; None if it has holes or is large.
        sha256: hex digest of the last archive without its compression, when all of its entries were given.
    """

    def __init__(self, paths: Sequence[str], limits: Limits) -> None:
        self.digest: bytes | None = None
        self.sha256 = ""
        self._items: Iterator[_Item] = iter(())
        self._end: dict[str, Any] | None = None  # what the last message ends with
        self._holds_slot = False
        self._left = 0  # bytes of the entry's content that were not given
        self._memory = memoryview(mmap.mmap(-1, _SLOTS * _SLOT))
        self._piece = self._memory[:0]  # what of them is there
        told, tell = os.pipe()
        freed, self._free = os.pipe()
        parent = os.getpid()
        self._pid = os.fork()
        if self._pid == 0:
            try:
                _serve(paths, limits, _Sender(tell, freed, self._memory), parent)
            finally:
                os._exit(0)
        os.close(tell)
        os.close(freed)
        self._told = open(told, "rb")  # noqa: SIM115  (closed on leaving)

    def __enter__(self) -> Reading:
        return self

    def __exit__(self, *_: object) -> None:
        self._told.close()
        os.close(self._free)
        os.kill(self._pid, signal.SIGKILL)  # it was not waited for, so it is that process still
        os.waitpid(self._pid, 0)

    def __iter__(self) -> Iterator[tar.Entry]:
        while True:
            for _ in self.content():
                pass  # nobody wanted it
            item = self._next()
            if item is None:
                return
            head, at, size, self.digest = item
            assert head is not None
            entry = tar.Entry(*head)
            self._left, self._piece = entry.stored, self._memory[at : at + size]
            yield entry

    def content(self) -> Iterator[memoryview]:
        """What is left of the last entry's content, piece by piece; each is valid until the next."""
        while self._left:
            if not self._piece:
                item = self._next()
                assert item is not None
                _, at, size, self.digest = item
                self._piece = self._memory[at : at + size]
            piece, self._piece = self._piece, self._piece[:0]
            self._left -= len(piece)
            yield piece

    def _next(self) -> _Item | None:
        """The next item; None at the end of an archive."""
        while (item := next(self._items, None)) is None:
            if self._end is None:
                self._receive()
                continue
            end, self._end = self._end, None
            if "errno" in end:
                raise OSError(end["errno"], end["strerror"], end["path"])
            if "error" in end:
                raise errors.from_json(end["error"])
            self.sha256 = end["sha256"]
            return None
        return item

    def _receive(self) -> None:
        if self._holds_slot:
            with suppress(BrokenPipeError):  # what is read then tells
                os.write(self._free, b".")
        size = int.from_bytes(self._told.read(_SIZE), "little")
        data = self._told.read(size)
        if not data or len(data) != size:
            raise Failed("the process that reads the image's archives was killed", hint="is there too little memory?")
        items, self._end = marshal.loads(data)
        self._items, self._holds_slot = iter(items), True


class _Sender:
    """The process's side: fills slots, and tells what is in them."""

    def __init__(self, tell: int, freed: int, memory: memoryview) -> None:
        self.descriptors = {tell, freed}
        self._tell, self._freed, self._memory = tell, freed, memory
        self._items: list[_Item] = []
        self._told = 0  # bytes of names and attributes in them, about
        self._filled = 0  # place in the memory
        self._end = _SLOT  # of the slot that is being filled
        self._free = _SLOTS - 1  # others

    def entry(self, entry: tar.Entry, content: Iterator[memoryview]) -> None:
        """Tell of an entry, with its content."""
        head: tuple[Any, ...] | None = tuple(entry)
        small = entry.kind == tar.FILE and entry.sparse is None and entry.size <= CHUNK
        at = self._filled
        sha = hashlib.sha256() if small else None
        for chunk in content:
            if sha is not None:
                sha.update(chunk)
            while chunk:
                if self._filled == self._end:
                    self._items.append((head, at, self._filled - at, None))
                    self._send(None)
                    head, at = None, self._filled
                piece = chunk[: self._end - self._filled]
                chunk = chunk[len(piece) :]
                self._memory[self._filled : self._filled + len(piece)] = piece
                self._filled += len(piece)
        self._items.append((head, at, self._filled - at, sha.digest() if sha is not None else None))
        self._told += len(entry.name) + len(entry.link) + sum(map(len, entry.xattrs.values())) + _ENTRY
        if self._told > _MESSAGE:
            self._send(None)

    def end(self, how: dict[str, Any]) -> None:
        """Tell that an archive has ended, and its digest, or what went wrong."""
        self._send(how)

    def _send(self, end: dict[str, Any] | None) -> None:
        data = marshal.dumps((self._items, end))
        left = memoryview(len(data).to_bytes(_SIZE, "little") + data)
        while left:
            left = left[os.write(self._tell, left) :]
        self._items, self._told = [], 0
        if self._free == 0:
            self._free = len(os.read(self._freed, _SLOTS))
            if self._free == 0:
                os._exit(0)  # the parent wants no more
        self._free -= 1
        self._filled = self._end % len(self._memory)
        self._end = self._filled + _SLOT


def _serve(paths: Sequence[str], limits: Limits, sender: _Sender, parent: int) -> None:
    die_with_parent(signal.SIGKILL, parent)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # sent to all of a terminal's processes: the parent decides
    close_all_but({0, 1, 2, *sender.descriptors})
    try:
        for path in paths:
            with open(path, "rb") as f:
                source = Digested(decompressed(f, limits))
                reader = tar.Reader(source, limits)
                for entry in reader:
                    sender.entry(entry, reader.content())
                reader.drain()
                sender.end({"sha256": source.sha.hexdigest()})
    except PodiumError as e:
        sender.end({"error": e.to_json()})
    except OSError as e:
        sender.end({"errno": e.errno, "strerror": e.strerror, "path": e.filename})
    except Exception as e:  # a fault of ours: told, not lost with the process
        sender.end({"error": Failed(f"the process that reads the image's archives failed: {e!r}").to_json()})
