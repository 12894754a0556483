"""Tar headers, read strictly: ustar, pax (with GNU sparse 0.0, 0.1, 1.0), GNU (long names, sparse) and V7.

Podium reads headers itself because Python's tarfile keeps every header in memory, reads extended headers of any size,
and takes half the time of an unpacking. Where readers are known to disagree about an archive (a size on an entry that
has no content, unknown kinds) it is refused, so that what was scanned is what is unpacked.
Sources: POSIX.1-2017 pax, "The Tar Format" and "Storing Sparse Files" of the GNU tar manual, tar(5) of libarchive.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NoReturn, Protocol
from zlib import adler32

from podium.errors import BadInput, LimitExceeded
from podium.named import NamedTuple
from podium.store.limits import MAX_BYTES, Limits
from podium.store.unpack import fields

BLOCK = 512
CHUNK = 1 << 18
NO_ARCHIVE = "the archive is no tar archive"
_ZEROS = bytes(BLOCK)
FILE, DIR, SYMLINK, HARDLINK, CHAR, BLOCKDEV, FIFO = "file", "dir", "symlink", "hardlink", "char", "block", "fifo"
_KINDS = {
    b"0": FILE, b"\0": FILE, b"7": FILE, b"S": FILE, b"1": HARDLINK, b"2": SYMLINK,
    b"3": CHAR, b"4": BLOCKDEV, b"5": DIR, b"6": FIFO,
}  # fmt: skip
_MAX_ID = (1 << 32) - 2  # -1 tells chown(2) to leave an owner as it is
_MAX_TIME = 1 << 40  # seconds; far beyond what file systems keep


class Source(Protocol):
    """What can be read."""

    def read(self, size: int, /) -> bytes:
        """At most `size` bytes; none at the end."""
        ...


class Entry(NamedTuple):
    """One entry of an archive; names are as the file system has them (surrogateescape for what is not UTF-8)."""

    name: str
    kind: str
    mode: int  # permission bits, with setuid, setgid and sticky
    uid: int
    gid: int
    mtime: int  # nanoseconds since the epoch
    size: int  # bytes of the file, holes included
    stored: int  # bytes of content in the archive
    link: str
    major: int
    minor: int
    xattrs: dict[str, bytes]
    sparse: list[tuple[int, int]] | None  # (offset, length) of what is stored, in order


class Reader:
    """Iterates over the entries of a stream; `content()` gives what the last one holds."""

    def __init__(self, source: Source, limits: Limits) -> None:
        self._source, self._limits = source, limits
        self._buffer = memoryview(b"")
        self._left = 0  # bytes of the current entry's content
        self._padding = 0
        self._globals: dict[str, bytes] = {}
        self._ended = False
        self._leap = getattr(source, "skip", None)  # of a source that need not read what nobody wants
        self.seen = 0
        self.position = 0  # bytes of the stream up to here

    def __iter__(self) -> Iterator[Entry]:
        while (entry := self._next()) is not None:
            yield entry

    def content(self) -> Iterator[memoryview]:
        """What is left of the last entry's content, chunk by chunk."""
        while self._left:
            chunk = self._take(self._left)
            if not chunk:
                self._early()
            self._left -= len(chunk)
            yield chunk

    def drain(self) -> None:
        """Read what follows the archive's end, to the end of the stream."""
        while self._take(CHUNK):
            pass

    def _early(self) -> NoReturn:
        raise BadInput("the archive is damaged: it ends in the middle of an entry" if self.seen else NO_ARCHIVE)

    def _take(self, size: int) -> memoryview:
        if not self._buffer:
            self._buffer = memoryview(self._source.read(CHUNK))
        chunk, self._buffer = self._buffer[:size], self._buffer[size:]
        self.position += len(chunk)
        return chunk

    def _exactly(self, size: int) -> bytes:
        if len(self._buffer) >= size:
            data, self._buffer = bytes(self._buffer[:size]), self._buffer[size:]
            self.position += size
            return data
        parts = []
        while size:
            chunk = self._take(size)
            if not chunk:
                self._early()
            parts.append(chunk)
            size -= len(chunk)
        return b"".join(parts)

    def _skip(self) -> None:
        if self._leap is not None and self._left > len(self._buffer):
            self._left -= len(self._take(self._left))
            if self._leap(self._left) != self._left:
                self._early()
            self.position += self._left
            self._left = 0
        for _ in self.content():
            pass
        if self._padding:
            self._exactly(self._padding)
            self._padding = 0

    def _header(self) -> bytes | None:
        first = self._take(BLOCK)
        if not first:
            return None  # an archive may end without its two blocks of zeros
        block = bytes(first) if len(first) == BLOCK else bytes(first) + self._exactly(BLOCK - len(first))
        if block == _ZEROS:
            return None
        # the low half of adler32 is 1 + the sum of the bytes, modulo 65521: exact for half a block, and fast
        total = (adler32(block[:256]) & 0xFFFF) + (adler32(block[256:]) & 0xFFFF) - 2 - sum(block[148:156]) + 256
        try:
            wanted = fields.number(block[148:156])
        except ValueError:
            wanted = -1
        if wanted != total:
            signed = total - 256 * (sum(b > 127 for b in block) - sum(b > 127 for b in block[148:156]))
            if wanted != signed:
                raise BadInput("the archive is damaged: a header's checksum is wrong" if self.seen else NO_ARCHIVE)
        self.seen += 1
        return block

    def _next(self) -> Entry | None:
        if self._ended:
            return None
        self._skip()
        pax: dict[str, bytes] = {}
        sparse_pairs: list[tuple[str, bytes]] = []
        long_name: bytes | None = None
        long_link: bytes | None = None
        extended = False
        while True:
            block = self._header()
            if block is None:
                if extended:
                    raise BadInput("the archive is damaged: it ends after an extended header")
                self._ended = True
                return None
            flag = block[156:157]
            if flag not in (b"x", b"X", b"g", b"L", b"K", b"V"):
                break
            data = self._extended(block)
            if flag == b"g":
                self._globals.update(fields.pax(data)[0])
                if sum(map(len, self._globals.values())) > self._limits.max_header:
                    raise LimitExceeded(f"global extended headers of more than {self._limits.max_header} bytes")
            elif flag == b"L":
                long_name, extended = data.split(b"\0", 1)[0], True
            elif flag == b"K":
                long_link, extended = data.split(b"\0", 1)[0], True
            elif flag != b"V":
                pax, sparse_pairs = fields.pax(data)
                extended = True
        try:
            return self._entry(
                block, {**self._globals, **pax} if self._globals else pax, sparse_pairs, long_name, long_link
            )
        except ValueError as e:
            name = block[:100].split(b"\0", 1)[0].decode("utf-8", "backslashreplace")
            raise BadInput(f"the archive is damaged: entry {name!r}: {e}", subject=name) from None

    def _extended(self, block: bytes) -> bytes:
        try:
            size = fields.number(block[124:136])
        except ValueError as e:
            raise BadInput(f"the archive is damaged: an extended header: {e}") from None
        if not 0 <= size <= self._limits.max_header:
            raise LimitExceeded(f"an extended header of {size} bytes is more than {self._limits.max_header}")
        data = self._exactly(size)
        self._exactly(-size % BLOCK)
        return data

    def _entry(
        self,
        block: bytes,
        pax: dict[str, bytes],
        sparse_pairs: list[tuple[str, bytes]],
        long_name: bytes | None,
        long_link: bytes | None,
    ) -> Entry:
        flag = block[156:157]
        raw = block[:100].split(b"\0", 1)[0]
        magic = block[257:265]
        if magic[:6] == b"ustar\0" and block[345] != 0:
            raw = block[345:500].split(b"\0", 1)[0] + b"/" + raw
        link = block[157:257].split(b"\0", 1)[0]
        size = fields.number(block[124:136])
        uid, gid = fields.number(block[108:116]), fields.number(block[116:124])
        mtime = fields.number(block[136:148]) * 1_000_000_000
        raw, link = long_name if long_name is not None else raw, long_link if long_link is not None else link
        xattrs: dict[str, bytes] = {}
        if pax:
            raw, link = pax.get("path", raw), pax.get("linkpath", link)
            size = fields.decimal(pax["size"]) if "size" in pax else size
            uid = fields.decimal(pax["uid"]) if "uid" in pax else uid
            gid = fields.decimal(pax["gid"]) if "gid" in pax else gid
            mtime = fields.time(pax["mtime"]) if "mtime" in pax else mtime
            for key, value in pax.items():
                if key.startswith(fields.XATTRS):
                    xattrs.update([fields.xattr(key, value)])
        if flag not in _KINDS:
            raise ValueError(f"kind {flag.decode('latin-1')!r} is none that podium unpacks")
        kind = DIR if flag in (b"0", b"\0") and raw.endswith(b"/") else _KINDS[flag]
        if size < 0:
            raise ValueError(f"its size is {size}")
        if kind == HARDLINK:
            size = 0  # old archives tell the target's size; no reader expects content
        elif kind != FILE and size:
            raise ValueError(f"a {kind} of {size} bytes: readers disagree on what that means")
        mode = fields.number(block[100:108]) & 0o7777
        major, minor = (
            (fields.number(block[329:337]), fields.number(block[337:345])) if kind in (CHAR, BLOCKDEV) else (0, 0)
        )
        self._left, self._padding = size, -size % BLOCK
        parts = None
        if kind == FILE and (flag == b"S" or "GNU.sparse.major" in pax or "GNU.sparse.size" in pax):
            size, parts = self._sparse(block, pax, sparse_pairs)
            raw = pax.get("GNU.sparse.name", raw)
        self._check(raw, link)
        name, target = raw.decode("utf-8", "surrogateescape"), link.decode("utf-8", "surrogateescape")
        entry = Entry(name, kind, mode, uid, gid, mtime, size, self._left, target, major, minor, xattrs, parts)
        self._check_numbers(entry)
        return entry

    def _check(self, raw: bytes, link: bytes) -> None:
        limits = self._limits
        for path in (raw, link):
            if len(path) > limits.max_path:
                raise LimitExceeded(f"a path of {len(path)} bytes is more than {limits.max_path}: {path[:60]!r}…")
            if b"\0" in path:
                raise ValueError("a zero byte in its name")

    def _check_numbers(self, entry: Entry) -> None:
        if not 0 <= entry.uid <= _MAX_ID or not 0 <= entry.gid <= _MAX_ID:
            raise ValueError(f"owner {entry.uid}:{entry.gid} is out of range")
        if entry.stored > self._limits.max_bytes:
            raise LimitExceeded(f"a file of {entry.stored} bytes is more than {self._limits.max_bytes}", hint=MAX_BYTES)
        if abs(entry.mtime) > _MAX_TIME * 1_000_000_000:
            raise ValueError("its time is out of range")
        if not 0 <= entry.major < 1 << 12 or not 0 <= entry.minor < 1 << 20:
            raise ValueError(f"device {entry.major}:{entry.minor} is out of range")

    def _sparse(
        self, block: bytes, pax: dict[str, bytes], pairs: list[tuple[str, bytes]]
    ) -> tuple[int, list[tuple[int, int]]]:
        """Size and parts of a sparse file, whose stored content is left."""
        if block[156:157] == b"S":
            parts, size = self._old_gnu(block), fields.number(block[483:495])
        elif "GNU.sparse.major" in pax:
            if (pax["GNU.sparse.major"], pax.get("GNU.sparse.minor")) != (b"1", b"0"):
                raise ValueError("its sparse format is unknown")
            size = fields.decimal(pax.get("GNU.sparse.realsize", b""))
            parts = self._map_in_content()
        else:
            size = fields.decimal(pax["GNU.sparse.size"])
            listed = pax["GNU.sparse.map"].split(b",") if "GNU.sparse.map" in pax else [v for _, v in pairs]
            self._extents(len(listed) // 2)
            numbers = [fields.decimal(n) for n in listed]
            if len(numbers) % 2:
                raise ValueError("its sparse map is odd")
            parts = list(zip(numbers[::2], numbers[1::2], strict=True))
        at = 0
        for offset, length in parts:
            if offset < at or length < 0 or offset + length > size:
                raise ValueError("its sparse map is out of order or range")
            at = offset + length
        if sum(length for _, length in parts) != self._left:
            raise ValueError("its sparse map does not fit its content")
        return size, [part for part in parts if part[1]]

    def _extents(self, count: int) -> None:
        if count > self._limits.max_extents:
            raise LimitExceeded(f"a sparse file of more than {self._limits.max_extents} parts")

    def _old_gnu(self, block: bytes) -> list[tuple[int, int]]:
        parts = fields.old_gnu_parts(block[386:482])
        more = block[482]
        while more:
            extension = self._exactly(BLOCK)
            parts += fields.old_gnu_parts(extension[:504])
            self._extents(len(parts))
            more = extension[504]
        return parts

    def _map_in_content(self) -> list[tuple[int, int]]:
        numbers: list[int] = []
        wanted, rest = 1, b""
        while len(numbers) < wanted:
            if self._left < BLOCK or len(rest) > 20:
                raise ValueError("its sparse map is cut off, or no list of numbers")
            *lines, rest = (rest + self._exactly(BLOCK)).split(b"\n")
            self._left -= BLOCK
            for line in lines[: wanted - len(numbers)] if numbers else lines:
                numbers.append(fields.decimal(line))
                if len(numbers) == 1:
                    self._extents(numbers[0])
                    wanted += 2 * numbers[0]
                if len(numbers) == wanted:
                    break
        return list(zip(numbers[1::2], numbers[2::2], strict=True))
