"""Removing from the store: one image, or what nothing needs any more.

The caller holds the store's lock alone. A pod's envelope says what it refers to, in every phase, until it is gone.
While an envelope or an image's record can't be read, what it may refer to stays.
"""

from __future__ import annotations

import os
import time

from podium.clock import parse
from podium.errors import Corrupt
from podium.events import images as events
from podium.linux.files import fsync_dir
from podium.named import NamedTuple
from podium.paths import DataDir
from podium.store import index, locks, naming, partial, usage
from podium.store.image import PREFIX, Image
from podium.store.workspace import Workspace, sweep
from podium.trace import trace


class Collected(NamedTuple):
    """What a collection removed: ids of images and trees, digests of blobs, names of leftovers, and their bytes;
    digests of guests' kernels.

    `kept` tells, for each thing that could have gone, why it stays.
    """

    images: list[str]
    trees: list[str]
    blobs: list[str]
    leftovers: list[str]
    bytes: int
    kept: list[tuple[str, str]]
    kernels: list[str]


def users(data: DataDir, image: Image) -> list[str]:
    """The pods that refer to an image or its tree, and those that can't be read, which may."""
    from podium.pods import envelope

    found: dict[str, None] = {}
    for uuid, pod in envelope.survey(data):
        if pod is None:
            found[f"{uuid} (which can't be read)"] = None
        elif image.id in pod.images or image.tree in pod.trees:
            found[f"{uuid} ({pod.name})" if pod.name else uuid] = None
    return list(found)


def remove_image(data: DataDir, image: Image) -> tuple[list[str], list[str], int]:
    """Remove an image's record, and its tree and blobs if no other needs them; returns trees, blobs and bytes."""
    for reference in image.references:
        naming.forget(data, reference)
    with events.transition(data, events.REMOVED, image.hex, image.name, image.imported):
        os.unlink(data.image(image.hex))
    trace("collect:record")
    usage.forget(data, image.hex)
    fsync_dir(data.images)  # first: a record without its blobs would be damage, blobs without a record are not
    others, problems = index.survey(data)
    if problems:
        return [], [], 0  # a record that can't be read may need them
    trees = [image.tree] if all(i.tree != image.tree for i in others) else []
    needed = {b.digest for i in others for b in i.blobs}
    blobs = [b.digest for b in image.blobs if b.digest not in needed]
    freed = _remove_trees(data, trees) + _remove_blobs(data, blobs)
    return trees, blobs, freed


def collect(data: DataDir, grace: float, *, dry_run: bool) -> Collected:
    """See `Store.gc`."""
    from podium.pods.envelope import referenced
    from podium.sandbox import derived, kernels

    arrived, freed = partial.sweep(data, grace, dry_run=dry_run)
    result = Collected([], [], [], [*([] if dry_run else sweep(data)), *arrived], 0, [], [])
    with locks.locked(data, locks.STORE), locks.locked(data, locks.RECORDS):
        index.renew(data)
        refs = referenced(data)
        images, problems = index.survey(data)
        unsure = [f"pod {u} can't be read" for u in refs.unreadable] + [p.error.message for p in problems]
        left = []
        for image in images:
            reason = _reason_to_keep(data, image, grace, refs.images | refs.trees)
            if reason is None and refs.unreadable:
                reason = unsure[0]
            if reason is None:
                result.images.append(image.id)
                if not dry_run:
                    for name in image.references:
                        naming.forget(data, name)
                    with events.transition(data, events.REMOVED, image.hex, image.name, image.imported):
                        os.unlink(data.image(image.hex))
                    trace("collect:record")
                    usage.forget(data, image.hex)
            else:
                left.append(image)
                if not image.references:
                    result.kept.append((image.id, reason))
        if not dry_run:
            for digits in usage.strays(data):
                usage.forget(data, digits)
        fsync_dir(data.images)
        if unsure:
            result.kept.extend(("blobs and trees", reason) for reason in unsure)
        else:
            trees = {i.tree for i in left} | refs.trees
            blobs = {b.digest.removeprefix(PREFIX) for i in left for b in i.blobs}
            result.trees.extend(t for t in _names(data.trees) if t not in trees)
            result.blobs.extend(PREFIX + b for b in _names(data.blobs) if b not in blobs)
            if not dry_run:
                freed += _remove_trees(data, result.trees) + _remove_blobs(data, result.blobs) + derived.sweep(data)
            result.kernels.extend(kernels.sweep(data, dry_run=dry_run))
        if not dry_run:
            index.survey(data)
    return result._replace(bytes=freed)


def _reason_to_keep(data: DataDir, image: Image, grace: float, used: set[str]) -> str | None:
    if image.references:
        return "it has a name"
    if image.id in used or image.tree in used:
        return "a pod refers to it"
    last = usage.last(data, image.hex) or 0.0
    for text in (image.imported, image.tagged):
        try:
            last = max(last, parse(text))
        except ValueError:
            continue
    return f"it was used less than {grace:.0f} s ago" if time.time() - last < grace else None


def _names(folder: str) -> list[str]:
    try:
        return sorted(n for n in os.listdir(folder) if not n.startswith("."))
    except FileNotFoundError:
        return []


def _remove_blobs(data: DataDir, digests: list[str]) -> int:
    freed = 0
    for digest in digests:
        path = data.blob(digest.removeprefix(PREFIX))
        try:
            freed += os.stat(path).st_size
            os.unlink(path)
        except FileNotFoundError:
            continue
        trace("collect:blob")
    return freed


def _remove_trees(data: DataDir, trees: list[str]) -> int:
    """A tree leaves its place whole, so that a half-removed one is never taken for a tree."""
    from podium.sandbox import derived
    from podium.store import trees as rendered

    freed = 0
    for tree in trees:
        try:
            freed += int(rendered.read(data, tree).get("bytes", 0))
        except (FileNotFoundError, Corrupt):
            pass  # its size is only told
        with Workspace(data) as workspace:
            try:
                os.rename(data.tree(tree), os.path.join(workspace.path, "tree"))
            except FileNotFoundError:
                continue
            fsync_dir(data.trees)
            trace("collect:tree-moved")
        trace("collect:tree")
        freed += derived.remove(data, tree)
    return freed
