"""Trees: an image rendered once into a folder, never changed again, the lower layer of its pods' overlays."""

from __future__ import annotations

import os

from podium import records
from podium.clock import rfc3339
from podium.errors import BadInput, Corrupt, LimitExceeded
from podium.linux.files import exchange, fsync_dir, write_atomic
from podium.paths import DataDir
from podium.store.image import PREFIX, Blob, Image
from podium.store.limits import Limits, located
from podium.store.unpack import content
from podium.store.unpack.extract import Extractor, Select, clean
from podium.store.unpack.reading import Reading
from podium.store.workspace import Workspace
from podium.trace import trace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

RENDERER = 1  # raised when the same image would be rendered otherwise
RECORD = "tree.json"


def tree_id(digits: str) -> str:
    """The tree of the image with these digits."""
    return f"{digits}-{RENDERER}"


def is_rendered(data: DataDir, tree: str) -> bool:
    """Whether a tree is there; a half-made one never is."""
    return os.path.exists(os.path.join(data.tree(tree), RECORD))


def read(data: DataDir, tree: str) -> dict[str, Any]:
    """tree.json: `bytes`, `entries`, `digest` of the content, `image`.

    Raises:
        FileNotFoundError: it is not rendered.
        Corrupt: the record is damaged.
    """
    return records.read(os.path.join(data.tree(tree), RECORD), f"the record of tree {tree[:12]}")


def render(
    data: DataDir, workspace: Workspace, image: Image, limits: Limits, progress: Callable[[int], None] | None = None
) -> int:
    """Render an image into the workspace, which is synced then; `publish` puts the tree into place.

    Returns the bytes of its files.

    Raises:
        Corrupt: a blob is missing.
        BadInput: an archive can't be unpacked, or is not the one that the image's configuration names.
    """
    workspace.dirty = True
    folder = os.path.join(workspace.path, "tree")
    rootfs = os.path.join(folder, "rootfs")
    os.makedirs(rootfs, mode=0o755)
    os.chmod(folder, 0o755)

    def unpacked(size: int) -> None:
        workspace.written(size)
        if progress is not None:
            progress(size)

    with Extractor(rootfs, limits, unpacked) as extractor:
        _apply(data, workspace, image, limits, extractor)
        extractor.finish()
    trace("tree:unpacked")
    with workspace.syncing():
        found = content.digest(rootfs, limits, extractor.digests)
    record = {
        "tree": 1,
        "image": image.id,
        "renderer": RENDERER,
        "digest": found.digest,
        "digest_version": content.VERSION,
        "bytes": found.bytes,
        "entries": found.entries,
        "dropped_xattrs": extractor.dropped,
        "rendered": rfc3339(),
    }
    write_atomic(os.path.join(folder, RECORD), records.seal(record) + b"\n")
    return found.bytes


def publish(data: DataDir, workspace: Workspace, tree: str, *, replace: bool = False) -> None:
    """Put the workspace's tree, which was synced, into place.

    Args:
        data: the data directory.
        workspace: what was there before is left in it, for removal.
        tree: its id.
        replace: whether a tree that is there is replaced; pods that run keep what they have mounted.
    """
    mine, theirs = os.path.join(workspace.path, "tree"), data.tree(tree)
    if is_rendered(data, tree) and not replace:
        return
    if os.path.lexists(theirs):  # without its record it is a part of a tree
        exchange(mine, theirs)
    else:
        os.rename(mine, theirs)
    fsync_dir(data.trees)
    trace("tree:rendered")


def fault(data: DataDir, tree: str, limits: Limits) -> str | None:
    """What is wrong with a tree, all of which is read; None if nothing is."""
    try:
        record = read(data, tree)
        found = content.digest(data.rootfs(tree), limits)
    except FileNotFoundError:
        return f"tree {tree} is missing"
    except Corrupt as e:
        return e.message
    except (OSError, LimitExceeded) as e:
        return f"tree {tree} can't be read: {e}"
    if record.get("digest_version") != content.VERSION:
        return f"tree {tree} has no digest that this podium knows"
    return None if record.get("digest") == found.digest else f"tree {tree} is altered: its digest is {found.digest}"


def _apply(data: DataDir, workspace: Workspace, image: Image, limits: Limits, extractor: Extractor) -> None:
    archives = [blob for blob in image.blobs if blob.role not in ("config", "manifest")]
    diff_ids = iter(image.diff_ids)
    with Reading([_find(data, workspace, blob) for blob in archives], limits) as reading:
        for blob in archives:
            try:
                if blob.role == "layer":
                    extractor.layer(reading, hides=True)
                    _expect(next(diff_ids, None), PREFIX + reading.sha256)
                else:
                    extractor.layer(reading, select=clean if blob.role == "rootfs" else _in_aci(blob.paths))
            except BadInput as e:
                raise located(e, f"image {image.name or image.id}: {blob.role} {blob.digest[:19]}") from None


def _in_aci(paths: tuple[str, ...]) -> Select:
    """What is below rootfs/, and if `paths` are given, only those and the folders on the way to them (appc aci.md)."""
    wanted = {clean(p) for p in paths}
    wanted.update(p[:i] for p in tuple(wanted) for i, c in enumerate(p) if c == "/")

    def select(name: str) -> str | None:
        first, _, rest = clean(name).partition("/")
        if first != "rootfs" or (wanted and rest and rest not in wanted):
            return None
        return rest

    return select


def _find(data: DataDir, workspace: Workspace, blob: Blob) -> str:
    digits = blob.digest.removeprefix(PREFIX)
    for path in (os.path.join(workspace.blobs, digits), data.blob(digits)):
        if os.path.exists(path):
            return path
    raise Corrupt(
        f"blob {blob.digest} is missing", hint="import the image again; 'podium fsck' tells more", subject=blob.digest
    )


def _expect(digest: str | None, found: str) -> None:
    if digest is not None and found != digest:
        raise BadInput(f"expected {digest} without compression, as the configuration says; found {found}")
