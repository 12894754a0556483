"""Blobs: what was imported, byte for byte, named by its sha256 and verified while it is written."""

from __future__ import annotations

import hashlib
import os
from typing import IO

from podium.errors import BadInput, LimitExceeded
from podium.linux.files import fsync_dir
from podium.paths import DataDir
from podium.store.image import PREFIX

_CHUNK = 1 << 20


def put(data: DataDir, source: IO[bytes], *, digest: str | None = None, size: int | None = None) -> tuple[str, int]:
    """Store a stream.

    Args:
        data: the data directory.
        source: what to read to its end.
        digest: `sha256:<hex>` that it must have.
        size: bytes that it must have; reading stops as soon as there are more.

    Returns:
        Its digest and size.

    Raises:
        BadInput: it is not what it had to be; LimitExceeded when it is larger.
    """
    hidden = data.at("tmp", f"blob-{os.getpid()}-{os.urandom(6).hex()}")
    sha, written = hashlib.sha256(), 0
    try:
        with open(hidden, "xb") as f:
            while chunk := source.read(_CHUNK):
                written += len(chunk)
                if size is not None and written > size:
                    raise LimitExceeded(f"a blob is larger than the {size} bytes that its descriptor says")
                sha.update(chunk)
                f.write(chunk)
            f.flush()
            os.fsync(f.fileno())
            os.fchmod(f.fileno(), 0o444)
        found = PREFIX + sha.hexdigest()
        if digest is not None and found != digest:
            raise BadInput(f"a blob is damaged: expected {digest}, found {found}", subject=digest)
        if size is not None and written != size:
            raise BadInput(f"blob {found} has {written} bytes, its descriptor says {size}", subject=found)
        os.rename(hidden, data.blob(found.removeprefix(PREFIX)))
        fsync_dir(data.blobs)
    except BaseException:
        if os.path.exists(hidden):
            os.unlink(hidden)
        raise
    return found, written


def has(data: DataDir, digest: str) -> bool:
    """Whether the blob is stored."""
    return os.path.exists(data.blob(digest.removeprefix(PREFIX)))
