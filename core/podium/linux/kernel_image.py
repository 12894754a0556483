"""What is in a distribution's kernel: the uncompressed vmlinux of a bzImage, and what a module says of itself.

Source: Documentation/arch/x86/boot.rst (setup header), scripts/extract-vmlinux, lz4's frame format document (legacy
frames) and block format document, elf(5).
"""

from __future__ import annotations

import struct
import zlib

from podium.errors import BadInput, HostLacks

_SETUP_SECTS, _MAGIC, _VERSION, _PAYLOAD = 0x1F1, 0x202, 0x20E, 0x248  # offsets in the setup header
_LZ4_LEGACY, _XZ, _ZSTD, _GZIP = b"\x02\x21\x4c\x18", b"\xfd7zXZ\0", b"\x28\xb5\x2f\xfd", b"\x1f\x8b"
_ELF = b"\x7fELF\x02\x01"  # of 64 bits, little-endian
MAX_BYTES = 1 << 30  # of a kernel or module without its compression


def release(image: bytes, name: str) -> str:
    """The release of a bzImage, as `uname -r` says it.

    Args:
        image: the whole file, or its first 64 KiB.
        name: of the file, for messages.

    Raises:
        BadInput: it is no bzImage.
    """
    if image[_MAGIC : _MAGIC + 4] != b"HdrS":
        raise BadInput(f"{name} is no Linux kernel for x86 (bzImage)", subject=name)
    at = struct.unpack_from("<H", image, _VERSION)[0] + 0x200
    words = image[at : image.find(b"\0", at)].split()
    if not words or b"/" in words[0]:
        raise BadInput(f"{name} does not say its release", subject=name)
    return words[0].decode("ascii", "replace")


def vmlinux(image: bytes, name: str) -> bytes:
    """The kernel in a bzImage as an ELF file without compression.

    Raises:
        BadInput: it is no bzImage, is damaged, or is compressed in an unknown way.
        HostLacks: it is compressed with zstd, and the Python package is not there.
    """
    release(image, name)
    start = (image[_SETUP_SECTS] + 1) * 512
    offset, length = struct.unpack_from("<II", image, _PAYLOAD)
    payload = image[start + offset : start + offset + length]
    if len(payload) != length or length < 16:
        raise BadInput(f"{name} ends early", subject=name)
    (size,) = struct.unpack("<I", payload[-4:])  # every compressor's output ends in it, or it was appended
    found = decompress(payload, name)
    if len(found) != size or not found.startswith(_ELF):
        raise BadInput(f"{name} is damaged: the kernel in it is not whole", subject=name)
    return found


def decompress(data: bytes, name: str) -> bytes:
    """A kernel's payload or a module without its compression, told by its first bytes; what follows it is ignored.

    Raises:
        BadInput: it is damaged, larger than 1 GiB, or neither gzip, xz, zstd, lz4 nor ELF.
        HostLacks: it is zstd, and the Python package is not there.
    """
    import lzma

    try:
        if data.startswith(_ELF):
            return data
        if data.startswith(_GZIP):
            return zlib.decompressobj(31).decompress(data, MAX_BYTES)
        if data.startswith(_XZ):
            return lzma.LZMADecompressor().decompress(data, MAX_BYTES)
        if data.startswith(_LZ4_LEGACY):
            return _lz4(data)
        if data.startswith(_ZSTD):
            return _zstd(data, name)
    except (zlib.error, lzma.LZMAError, IndexError, ValueError, struct.error) as e:
        raise BadInput(f"{name} is damaged: {e}", subject=name) from None
    raise BadInput(f"{name} is compressed in a way that podium doesn't know", subject=name)


def modinfo(module: bytes, name: str) -> dict[str, str]:
    """The fields of a module's .modinfo section (ELF); of several of a name the last.

    Raises:
        BadInput: it is no module.
    """
    try:
        if not module.startswith(_ELF):
            raise ValueError("no ELF file")
        (table,) = struct.unpack_from("<Q", module, 0x28)
        size, count, names_at = struct.unpack_from("<HHH", module, 0x3A)
        sections = [struct.unpack_from("<IIQQQQ", module, table + i * size) for i in range(count)]
        names = sections[names_at][4]
        for section in sections:
            start = names + section[0]
            if module[start : start + 9] == b".modinfo\0":
                text = module[section[4] : section[4] + section[5]].decode("utf-8", "replace")
                return dict(f.partition("=")[::2] for f in text.split("\0") if f)
    except (ValueError, IndexError, struct.error):
        pass
    raise BadInput(f"{name} is no kernel module", subject=name)


def _zstd(data: bytes, name: str) -> bytes:
    try:
        import zstandard
    except ImportError:
        raise HostLacks(
            f"{name} is compressed with zstd, which this Python has no package for", hint="pip install zstandard"
        ) from None
    try:
        return zstandard.ZstdDecompressor(max_window_size=1 << 27).decompressobj().decompress(data)
    except zstandard.ZstdError as e:
        raise ValueError(e) from None


def _lz4(data: bytes) -> bytes:
    """Legacy frames: blocks of at most 8 MiB, each after its compressed size; the last four bytes are no block."""
    out, at = bytearray(), 4
    while at < len(data) - 4:
        (size,) = struct.unpack_from("<I", data, at)
        if not 0 < size <= len(data) - at - 4:
            raise ValueError("an lz4 block ends early")
        out += _lz4_block(data[at + 4 : at + 4 + size])
        at += 4 + size
        if len(out) > MAX_BYTES:
            raise ValueError("it is too large")
    return bytes(out)


def _lz4_block(block: bytes) -> bytearray:
    out, at, end = bytearray(), 0, len(block)
    while True:
        token = block[at]
        at += 1
        length = token >> 4
        if length == 15:
            while (more := block[at]) == 255:
                length += 255
                at += 1
            length += more
            at += 1
        out += block[at : at + length]
        at += length
        if at >= end:
            return out
        start = len(out) - (block[at] | block[at + 1] << 8)
        if start < 0 or start == len(out):
            raise ValueError("an lz4 block copies from nowhere")
        at += 2
        length = (token & 15) + 4
        if token & 15 == 15:
            while (more := block[at]) == 255:
                length += 255
                at += 1
            length += more
            at += 1
        distance = len(out) - start
        if distance >= length:
            out += out[start : start + length]
        else:  # it overlaps what it makes
            out += (out[start:] * (length // distance + 1))[:length]
