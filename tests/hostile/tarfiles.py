"""Tar archives to the byte: headers that no honest program writes."""

from __future__ import annotations

BLOCK = 512
END = bytes(2 * BLOCK)


def number(value: int, width: int) -> bytes:
    """Octal where it fits, else base 256."""
    text = b"%0*o" % (width - 1, value) if value >= 0 else b""
    if value >= 0 and len(text) < width:
        return text + b"\0"
    raw = value.to_bytes(width, "big", signed=True) if value < 0 else value.to_bytes(width, "big")
    return bytes([raw[0] | 0x80]) + raw[1:]


def header(
    name: str | bytes,
    kind: str = "0",
    *,
    size: int = 0,
    link: str | bytes = b"",
    mode: int = 0o644,
    uid: int = 0,
    gid: int = 0,
    mtime: int = 1_000_000_000,
    device: tuple[int, int] = (0, 0),
    magic: bytes = b"ustar\x0000",
    raw: dict[int, bytes] | None = None,
) -> bytes:
    """One header; `raw` puts bytes into it before the checksum is made."""
    encoded = name if isinstance(name, bytes) else name.encode("utf-8", "surrogateescape")
    target = link if isinstance(link, bytes) else link.encode("utf-8", "surrogateescape")
    block = bytearray(BLOCK)
    prefix = b""
    if len(encoded) > 100:
        cut = encoded.rindex(b"/", 0, 155)
        prefix, encoded = encoded[:cut], encoded[cut + 1 :]
    block[0 : len(encoded)] = encoded
    block[100:108], block[108:116], block[116:124] = number(mode, 8), number(uid, 8), number(gid, 8)
    block[124:136], block[136:148] = number(size, 12), number(mtime, 12)
    block[156:157] = kind.encode()
    block[157 : 157 + len(target[:100])] = target[:100]
    block[257:265] = magic
    block[329:337], block[337:345] = number(device[0], 8), number(device[1], 8)
    block[345 : 345 + len(prefix)] = prefix
    for where, what in (raw or {}).items():
        block[where : where + len(what)] = what
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


def padded(data: bytes) -> bytes:
    """Content, up to the next block."""
    return data + bytes(-len(data) % BLOCK)


def entry(name: str | bytes, data: bytes = b"", kind: str = "0", **fields: object) -> bytes:
    """A header and its content."""
    return header(name, kind, size=len(data), **fields) + padded(data)  # type: ignore[arg-type]


def folder(name: str, **fields: object) -> bytes:
    return header(name, "5", **{"mode": 0o755, **fields})  # type: ignore[arg-type]


def link(name: str, target: str | bytes, **fields: object) -> bytes:
    return header(name, "2", link=target, mode=0o777, **fields)  # type: ignore[arg-type]


def hard(name: str, target: str | bytes, **fields: object) -> bytes:
    return header(name, "1", link=target, **fields)  # type: ignore[arg-type]


def pax(records: dict[str, bytes | str] | list[tuple[str, bytes | str]], kind: str = "x") -> bytes:
    """An extended header."""
    data = b""
    for key, value in records.items() if isinstance(records, dict) else records:
        body = b" %b=%b\n" % (key.encode(), value if isinstance(value, bytes) else value.encode())
        size = len(body) + 1
        while len(b"%d" % size) + len(body) != size:
            size = len(b"%d" % size) + len(body)
        data += b"%d" % size + body
    return entry("pax", data, kind)


def long_name(name: bytes, kind: str = "L") -> bytes:
    """GNU's way of a long name (L) or link target (K)."""
    return entry("././@LongLink", name + b"\0", kind)
