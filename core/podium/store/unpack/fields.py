"""Fields of tar headers: numbers, times, pax records, maps of sparse files.

Sources: as of podium.store.unpack.tar.
"""

from __future__ import annotations

from functools import lru_cache

from podium.errors import BadInput

XATTRS = ("SCHILY.xattr.", "LIBARCHIVE.xattr.")  # of pax keys


def old_gnu_parts(raw: bytes) -> list[tuple[int, int]]:
    """Offsets and sizes of a sparse file's parts, in GNU's old form. Raises ValueError."""
    parts = []
    for i in range(0, len(raw) - 23, 24):
        if raw[i] == 0 or raw[i + 12] == 0:
            break
        parts.append((number(raw[i : i + 12]), number(raw[i + 12 : i + 24])))
    return parts


@lru_cache(1024)  # owners, modes and sizes come again and again
def number(field: bytes) -> int:
    """Octal, or GNU's base 256. Raises ValueError."""
    if field[0] & 0x80:
        value = int.from_bytes(field, "big")
        bits = 8 * len(field)
        return value - (1 << bits) if field[0] & 0x40 else value - (1 << (bits - 1))
    text = field.split(b"\0", 1)[0].strip(b" ")
    if not text:
        return 0
    if not text.isdigit() or b"8" in text or b"9" in text:
        raise ValueError(f"{text[:16]!r} is no octal number")
    return int(text, 8)


def decimal(text: bytes) -> int:
    """Decimal digits. Raises ValueError."""
    if not text.isdigit() or len(text) > 20:
        raise ValueError(f"{text[:32]!r} is no number")
    return int(text)


def time(text: bytes) -> int:
    """Nanoseconds of decimal seconds, exactly. Raises ValueError."""
    whole, _, fraction = text.partition(b".")
    if len(whole) > 20 or (fraction and not fraction.isdigit()):
        raise ValueError(f"{text[:32]!r} is no time")
    nanos = int((fraction + b"000000000")[:9])
    return int(whole) * 1_000_000_000 + (-nanos if whole.startswith(b"-") else nanos)


def pax(data: bytes) -> tuple[dict[str, bytes], list[tuple[str, bytes]]]:
    """The records of a pax header, and those of GNU sparse 0.0, which come more than once. Raises BadInput."""
    records: dict[str, bytes] = {}
    sparse: list[tuple[str, bytes]] = []
    at = 0
    while at < len(data):
        space = data.find(b" ", at, at + 20)
        digits = data[at:space] if space > 0 else b""
        if not digits.isdigit():
            if not data[at:].strip(b"\0"):
                break
            raise BadInput("the archive is damaged: a pax header has no length")
        end = at + int(digits)
        record = data[space + 1 : end]
        key, equals, value = record.partition(b"=")
        if end > len(data) or not record.endswith(b"\n") or not equals or not key:
            raise BadInput("the archive is damaged: a pax header's length is wrong")
        name, value = key.decode("utf-8", "surrogateescape"), value[:-1]
        if name in ("GNU.sparse.offset", "GNU.sparse.numbytes"):
            sparse.append((name, value))
        elif value:
            records[name] = value
        elif not name.startswith(XATTRS):
            records.pop(name, None)
        else:
            records[name] = value
        at = end
    return records, sparse


def xattr(key: str, value: bytes) -> tuple[str, bytes]:
    """Name and value of an extended attribute, from a record whose key begins as one of XATTRS. Raises ValueError."""
    if key.startswith("SCHILY."):
        return key.removeprefix("SCHILY.xattr."), value
    import base64
    from urllib.parse import unquote

    return unquote(key.removeprefix("LIBARCHIVE.xattr."), errors="surrogateescape"), base64.b64decode(value + b"==")
