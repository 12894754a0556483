"""Sealed records: small JSON files that say whether they are whole.

A sealed record is one JSON object on one line whose last member is `"crc32"`, eight hex digits: the CRC-32 (ISO 3309,
as in zlib) of the bytes of the line before `,"crc32"`. So a reader needs no canonical form, `jq` reads the file as
it is, and a ledger is simply one sealed record a line.
"""

from __future__ import annotations

import os
import stat
from errno import EINVAL
from zlib import crc32

from podium.errors import Corrupt, LimitExceeded
from podium.quickjson import dumps, loads

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

MAX_RECORD = 4 << 20  # bytes; no record comes near it, and a damaged one must not fill the memory
_TAIL = len(',"crc32":"00000000"}')


class Unreadable(Corrupt):
    """A record that could not be read this time (too many open files, say, or the disk failed): it may be whole."""


def seal(record: dict[str, Any]) -> bytes:
    """The record as one line of JSON with its checksum, without a newline. It must not be empty."""
    body = dumps(record, (",", ":")).encode()[:-1]
    return b'%b,"crc32":"%08x"}' % (body, crc32(body))


def unseal(data: bytes, what: str) -> dict[str, Any]:
    """The record that `seal` made, without its checksum.

    Args:
        data: the bytes of the record; a final newline is accepted.
        what: names the record in the error.

    Raises:
        Corrupt: it is not whole, or it is no sealed record.
    """
    line = data.rstrip(b"\n")
    body, tail = line[:-_TAIL], line[-_TAIL:]
    if not body.startswith(b"{") or not tail.startswith(b',"crc32":"'):
        raise Corrupt(f"{what} is damaged: {_describe(data)}", subject=what)
    if tail != b',"crc32":"%08x"}' % crc32(body):
        raise Corrupt(f"{what} is damaged: its checksum is wrong", subject=what)
    try:
        record = loads(body + b"}")
    except (ValueError, RecursionError) as e:
        raise Corrupt(f"{what} is damaged: {e}", subject=what) from None
    assert isinstance(record, dict)  # it starts with a brace
    return record


def _describe(data: bytes) -> str:
    if not data.strip(b"\0 \n"):
        return "it is empty" if not data.strip(b"\n ") else f"it holds {len(data)} NUL bytes"
    return "it does not end in a checksum (truncated, or not written by podium)"


def read_bytes(path: str, limit: int = MAX_RECORD) -> bytes:
    """The bytes of a small file.

    Raises:
        LimitExceeded: it is larger than `limit` bytes.
        OSError: it can't be read, or is no regular file: a link is not followed, a pipe not waited for.
    """
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        about = os.fstat(fd)
        if not stat.S_ISREG(about.st_mode):
            raise OSError(EINVAL, "not a regular file", path)
        # One byte more than there is: a read that is short has met the end, so mostly one is enough.
        wanted = min(about.st_size, limit) + 1
        data = more = os.read(fd, wanted)
        while len(more) == wanted and len(data) <= limit:
            data += (more := os.read(fd, wanted))
    finally:
        os.close(fd)
    if len(data) > limit:
        raise LimitExceeded(f"{path} is larger than {limit} bytes", subject=path)
    return data


def read(path: str, what: str | None = None) -> dict[str, Any]:
    """The sealed record in a file.

    Raises:
        FileNotFoundError: it is not there.
        Corrupt: it is damaged; Unreadable: it can't be read.
    """
    what = what or path
    try:
        return unseal(read_bytes(path), what)
    except FileNotFoundError:
        raise
    except LimitExceeded as e:
        raise Corrupt(f"{what} is damaged: {e.message}", subject=what) from None
    except OSError as e:
        raise Unreadable(f"{what} can't be read: {e.strerror}", subject=what) from None
