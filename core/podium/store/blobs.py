"""Blobs: what was imported, byte for byte, named by its sha256 and verified while it is written."""

from __future__ import annotations

import hashlib
import os

from podium.errors import BadInput, LimitExceeded
from podium.linux.files import fsync_dir
from podium.paths import DataDir
from podium.store.image import PREFIX
from podium.store.limits import MAX_BYTES
from podium.store.unpack.ahead import ReadAhead
from podium.store.unpack.streams import Source
from podium.store.workspace import Workspace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import IO

_CHUNK = 1 << 20


def put(
    workspace: Workspace,
    source: Source,
    *,
    limit: int,
    digest: str | None = None,
    size: int | None = None,
    progress: Callable[[int], None] | None = None,
) -> tuple[str, int]:
    """Write a stream into the workspace.

    Args:
        workspace: `publish` moves it from there to the store.
        source: what to read to its end.
        limit: bytes that it may have at most.
        digest: `sha256:<hex>` that it must have.
        size: bytes that it must have; what is more is not written.
        progress: called with the bytes of each chunk.

    Returns:
        Its digest and size.

    Raises:
        BadInput: it is not what it had to be; LimitExceeded when it is larger.
    """
    workspace.dirty = True
    hidden = os.path.join(workspace.blobs, f"new-{os.urandom(6).hex()}")
    written = 0
    allowed = limit if size is None else min(limit, size)
    if size is not None and size > limit:
        raise LimitExceeded(f"a blob of {size} bytes is more than {limit}", hint=MAX_BYTES)
    with open(hidden, "xb", buffering=0) as f, ReadAhead(source) as ahead:
        while chunk := ahead.read(_CHUNK):
            written += len(chunk)
            if written > allowed:
                told, hint = ("its descriptor says", None) if size is not None else ("are allowed", MAX_BYTES)
                raise LimitExceeded(f"a blob is larger than the {allowed} bytes that {told}", hint=hint, subject=digest)
            left = memoryview(chunk)
            while left:
                left = left[f.write(left) :]
            if progress is not None:
                progress(len(chunk))
        os.fchmod(f.fileno(), 0o444)
    found = PREFIX + ahead.hexdigest()
    if size is not None and written != size:
        raise BadInput(f"a blob has {written} bytes, its descriptor says {size}", subject=digest or found)
    if digest is not None and found != digest:
        raise BadInput(f"a blob is damaged: expected {digest}, found {found}", subject=digest)
    os.rename(hidden, os.path.join(workspace.blobs, found.removeprefix(PREFIX)))
    return found, written


def adopt(data: DataDir, workspace: Workspace, digest: str, size: int) -> bool:
    """Give the workspace a blob that the store has, which nobody can take from it then. False if it has none."""
    digits = digest.removeprefix(PREFIX)
    mine = os.path.join(workspace.blobs, digits)
    try:
        os.link(data.blob(digits), mine)
    except FileExistsError:
        return True
    except FileNotFoundError:
        return False
    if os.stat(mine).st_size != size:  # damaged: it is stored again
        os.unlink(mine)
        return False
    return True


def publish(data: DataDir, workspace: Workspace) -> None:
    """Move the workspace's blobs to the store; they were synced. Those that it has already stay."""
    for name in os.listdir(workspace.blobs):
        mine, theirs = os.path.join(workspace.blobs, name), data.blob(name)
        try:
            same = os.stat(theirs).st_size == os.stat(mine).st_size
        except FileNotFoundError:
            same = False
        if same:
            os.unlink(mine)
        else:
            os.rename(mine, theirs)
    fsync_dir(data.blobs)


def set_aside(data: DataDir, digest: str) -> None:
    """Take an altered blob out of the store, so that an import brings a good one; it is kept in cache/ as evidence."""
    digits = digest.removeprefix(PREFIX)
    try:
        os.rename(data.blob(digits), os.path.join(data.cache, f"altered-{digits}"))
    except FileNotFoundError:
        pass


def digest_of(f: IO[bytes]) -> str:
    """`sha256:<hex>` of the rest of a file."""
    return PREFIX + hashlib.file_digest(f, "sha256").hexdigest()  # type: ignore[arg-type]


def fault(data: DataDir, digest: str, size: int) -> str | None:
    """What is wrong with a stored blob, all of which is read; None if nothing is."""
    try:
        return damage(data, digest, size)
    except OSError as e:
        return f"blob {digest} can't be read: {e.strerror}"


def damage(data: DataDir, digest: str, size: int) -> str | None:
    """The same, where a blob that can't be read need not be damaged.

    Raises:
        OSError: it can't be read.
    """
    try:
        with open(data.blob(digest.removeprefix(PREFIX)), "rb") as f:
            found_size = os.fstat(f.fileno()).st_size
            if found_size != size:
                return f"blob {digest} has {found_size} bytes instead of {size}"
            found = digest_of(f)
    except FileNotFoundError:
        return f"blob {digest} is missing"
    return None if found == digest else f"blob {digest} is altered: its digest is {found}"
