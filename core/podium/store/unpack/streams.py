"""Archives without their compression, which is told by their first bytes: gzip, bzip2, xz, zstd or none.

Every reader gives at most the bytes that were asked for, however small the compressed input that makes them, and raises
BadInput for what is damaged or ends early.
"""

from __future__ import annotations

import hashlib
import os
import zlib
from typing import IO, TYPE_CHECKING, Protocol

from podium.errors import BadInput, HostLacks, LimitExceeded
from podium.store.limits import MAX_BYTES, Limits

if TYPE_CHECKING:
    from subprocess import Popen

CHUNK = 1 << 18  # small enough for a processor's cache
MAGIC_BYTES = 6
_PACKED = 1 << 16  # bytes of a gzip stream at once: what does not fit the output is copied each time
_XZ_MEMORY = 256 << 20  # bytes; xz -9 needs 65 MiB
_ZSTD_WINDOW = 1 << 27  # bytes; what the zstd program accepts unless it is told otherwise


class Source(Protocol):
    """What can be read."""

    def read(self, size: int, /) -> bytes:
        """At most `size` bytes; none at the end."""
        ...


class Digested:
    """A source whose bytes are digested as they are read.

    Attributes:
        sha: of all that was read.
    """

    def __init__(self, source: Source) -> None:
        self._source, self.sha = source, hashlib.sha256()

    def read(self, size: int, /) -> bytes:
        """At most `size` bytes; none at the end."""
        data = self._source.read(size)
        self.sha.update(data)
        return data


def compression(magic: bytes) -> str:
    """`gzip`, `bzip2`, `xz`, `zstd` or `none`, by a file's first bytes."""
    for name, start in (("gzip", b"\x1f\x8b"), ("bzip2", b"BZh"), ("xz", b"\xfd7zXZ\0"), ("zstd", b"\x28\xb5\x2f\xfd")):
        if magic.startswith(start):
            return name
    return "none"


def decompressed(f: IO[bytes], limits: Limits) -> Source:
    """The stream without its compression.

    Args:
        f: a file at its start that can seek there again.
        limits: max_bytes and max_ratio hold for what comes out.

    Raises:
        HostLacks: it is zstd, and neither the Python package nor the program is there.
    """
    magic = f.read(MAGIC_BYTES)
    f.seek(-len(magic), 1)
    counted = _Counted(f)
    inner: Source
    match compression(magic):
        case "gzip":
            inner = _Gzip(counted)
        case "bzip2":
            import bz2

            inner = _Members(counted, bz2.BZ2Decompressor, "bzip2", b"BZh")
        case "xz":
            import lzma

            inner = _Members(counted, lambda: lzma.LZMADecompressor(memlimit=_XZ_MEMORY), "xz", b"\xfd7zXZ\0")
        case "zstd":
            inner = _zstd(counted, f)
        case _:
            return f
    return _Bounded(inner, counted, limits)


class _Counted:
    """Counts what is read."""

    def __init__(self, f: Source) -> None:
        self._f = f
        self.count = 0

    def read(self, size: int = -1) -> bytes:
        data = self._f.read(size)
        self.count += len(data)
        return data


class _Bounded:
    """Refuses bombs."""

    def __init__(self, inner: Source, packed: _Counted, limits: Limits) -> None:
        self._inner, self._packed, self._limits = inner, packed, limits
        self._count = 0

    def read(self, size: int, /) -> bytes:
        data = self._inner.read(size)
        self._count += len(data)
        limits = self._limits
        if self._count > limits.max_bytes:
            raise LimitExceeded(
                f"the archive has more than {limits.max_bytes} bytes without its compression", hint=MAX_BYTES
            )
        if self._count > limits.ratio_from and self._count > limits.max_ratio * max(self._packed.count, 1):
            raise LimitExceeded(
                f"the archive is a bomb: {self._packed.count} bytes became {self._count}, "
                f"more than {limits.max_ratio} times as many"
            )
        return data


class _Gzip:
    """RFC 1952: members one after the other, perhaps with zeros behind them."""

    def __init__(self, raw: Source) -> None:
        self._raw = raw
        self._z = zlib.decompressobj(31)
        self._input = b""

    def read(self, size: int, /) -> bytes:
        while True:
            if self._z.eof and not self._next():
                return b""
            data = self._input or self._raw.read(_PACKED)
            if not data:
                raise BadInput("the archive is damaged: its gzip stream ends early")
            try:
                out = self._z.decompress(data, size)
            except zlib.error as e:
                raise BadInput(f"the archive is damaged: gzip: {e}") from None
            self._input = self._z.unconsumed_tail
            if out:
                return out

    def _next(self) -> bool:
        rest = _after_padding(self._z.unused_data, self._raw)
        if not rest:
            return False
        if rest[:1] != b"\x1f":
            raise BadInput("the archive is damaged: something that is no gzip follows its gzip stream")
        self._z, self._input = zlib.decompressobj(31), rest
        return True


def _after_padding(rest: bytes, raw: Source) -> bytes:
    rest = rest.lstrip(b"\0")
    while not rest:
        more = raw.read(CHUNK)
        if not more:
            return b""
        rest = more.lstrip(b"\0")
    return rest


class _Decompressor(Protocol):
    """bz2.BZ2Decompressor and lzma.LZMADecompressor."""

    @property
    def eof(self) -> bool: ...
    @property
    def needs_input(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, /, max_length: int = -1) -> bytes: ...


class _Members:
    """Streams of bzip2 or xz, one after the other."""

    def __init__(self, raw: Source, make: type[_Decompressor] | object, what: str, magic: bytes) -> None:
        self._raw, self._make, self._what, self._magic = raw, make, what, magic
        self._inner: _Decompressor = make()  # type: ignore[operator]
        self._input = b""

    def read(self, size: int, /) -> bytes:
        import lzma

        while True:
            if self._inner.eof:
                rest = _after_padding(self._inner.unused_data, self._raw)
                if not rest:
                    return b""
                if rest[:1] != self._magic[:1]:
                    raise BadInput(f"the archive is damaged: something else follows its {self._what} stream")
                self._inner, self._input = self._make(), rest  # type: ignore[operator]
            data, self._input = self._input, b""
            if not data and self._inner.needs_input:
                data = self._raw.read(CHUNK)
                if not data:
                    raise BadInput(f"the archive is damaged: its {self._what} stream ends early")
            try:
                out = self._inner.decompress(data, size)
            except (OSError, EOFError, ValueError, MemoryError, lzma.LZMAError) as e:
                raise BadInput(f"the archive is damaged: {self._what}: {e}") from None
            if out:
                return out


def _zstd(counted: _Counted, f: IO[bytes]) -> Source:
    try:
        import zstandard  # noqa: F401
    except ImportError:
        return _ZstdProgram(counted, f)
    return _ZstdPackage(counted)


class _ZstdPackage:
    """The `zstandard` package. It does not tell a frame that ends early; the tar in it and the digests do."""

    def __init__(self, raw: _Counted) -> None:
        import zstandard

        self._error = zstandard.ZstdError
        decompressor = zstandard.ZstdDecompressor(max_window_size=_ZSTD_WINDOW)
        self._reader = decompressor.stream_reader(raw, read_size=CHUNK, read_across_frames=True)  # type: ignore[arg-type]

    def read(self, size: int, /) -> bytes:
        try:
            return self._reader.read(size)
        except self._error as e:
            raise BadInput(f"the archive is damaged: zstd: {e}") from None


class _ZstdProgram:
    """The `zstd` program, which reads the file itself."""

    def __init__(self, counted: _Counted, f: IO[bytes]) -> None:
        import shutil
        import subprocess

        program = shutil.which("zstd")
        if program is None:
            raise HostLacks(
                "the archive is compressed by zstd, which is not installed",
                hint="install zstd, or the extra 'podium[zstd]'",
            )
        os.lseek(f.fileno(), f.tell(), os.SEEK_SET)  # the child shares the descriptor, not what was read ahead
        argv = [program, "--decompress", "--stdout", "--quiet", "--memory=128MiB"]
        self._child: Popen[bytes] = subprocess.Popen(argv, stdin=f, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        counted.count = _remaining(f)

    def read(self, size: int, /) -> bytes:
        assert self._child.stdout is not None and self._child.stderr is not None
        data = self._child.stdout.read(size)
        if not data and self._child.wait() != 0:
            complaint = self._child.stderr.read().decode(errors="replace").strip()
            raise BadInput(f"the archive is damaged: {complaint[-200:]}")
        return data

    def __del__(self) -> None:
        child = getattr(self, "_child", None)
        if child is not None:
            child.kill()
            child.wait()
            for stream in (child.stdout, child.stderr):
                if stream is not None:
                    stream.close()


def _remaining(f: IO[bytes]) -> int:
    at = f.tell()
    end = f.seek(0, 2)
    f.seek(at)
    return end - at
