"""Trees: an image rendered once into a folder, never changed again, the lower layer of its pods' overlays."""

from __future__ import annotations

import fcntl
import os

from podium import records
from podium.clock import rfc3339
from podium.errors import Corrupt
from podium.linux.files import fsync_dir, write_atomic
from podium.linux.tree import remove_tree
from podium.paths import DataDir
from podium.store.image import PREFIX, Image
from podium.store.store import Limits
from podium.store.layers import Unpacker
from podium.trace import trace

RENDERER = 1  # raised when the same image would be rendered otherwise


def tree_id(hex_id: str) -> str:
    """The tree of the image with these digits."""
    return f"{hex_id}-{RENDERER}"


def render(data: DataDir, image: Image, limits: Limits) -> int:
    """Render an image's tree, once: others that want the same wait. Returns the bytes of file content in it.

    Raises:
        Corrupt: a blob is missing.
        BadInput: an archive can't be unpacked.
    """
    fd = os.open(os.path.join(data.locks, f"tree-{image.tree}"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        done = os.path.join(data.tree(image.tree), "tree.json")
        if os.path.exists(done):
            return int(records.read(done).get("bytes", 0))
        return _render(data, image, limits)
    finally:
        os.close(fd)


def _render(data: DataDir, image: Image, limits: Limits) -> int:
    name = f"tree-{image.tree}"
    hidden = data.at("tmp", name)
    if os.path.lexists(hidden):
        remove_tree(data.tmp, name)  # of somebody who was killed: we hold the lock
    os.makedirs(os.path.join(hidden, "rootfs"), mode=0o755)
    try:
        unpacker = Unpacker(os.path.join(hidden, "rootfs"), limits.max_bytes, limits.max_entries)
        for blob in image.blobs:
            if blob.role in ("layer", "aci", "rootfs"):
                path = data.blob(blob.digest.removeprefix(PREFIX))
                try:
                    with open(path, "rb") as f:
                        unpacker.layer(f, below="rootfs" if blob.role == "aci" else "", whiteouts=blob.role == "layer")
                except FileNotFoundError:
                    raise Corrupt(f"blob {blob.digest} of image {image.name} is missing", subject=image.id) from None
        unpacker.finish()
        trace("tree:unpacked")
        os.sync()  # cheaper than an fsync for each of thousands of files
        record = {"tree": 1, "image": image.id, "bytes": unpacker.bytes, "entries": unpacker.entries, "at": rfc3339()}
        write_atomic(os.path.join(hidden, "tree.json"), records.seal(record) + b"\n")
        if os.path.lexists(data.tree(image.tree)):
            remove_tree(data.trees, image.tree)  # without its tree.json it is half a tree
        os.rename(hidden, data.tree(image.tree))
        fsync_dir(data.trees)
        trace("tree:rendered")
        return unpacker.bytes
    except BaseException:
        if os.path.lexists(hidden):
            remove_tree(data.tmp, name)
        raise
