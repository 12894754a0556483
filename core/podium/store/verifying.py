"""Holding an image against its digests: its blobs, and its tree, which is rendered again if its content differs."""

from __future__ import annotations

from podium.errors import PodiumError
from podium.named import NamedTuple
from podium.paths import DataDir
from podium.sandbox import derived
from podium.store import blobs, locks, trees
from podium.store.image import Image
from podium.store.limits import Limits
from podium.store.workspace import Workspace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class Verified(NamedTuple):
    """What was found of one image: `problems` that are left, and those that were `repaired`."""

    id: str
    name: str
    problems: list[str]
    repaired: list[str]

    def to_json(self) -> dict[str, Any]:
        """As one element of `podium.image-verify/1`."""
        return self._asdict()


def verify(data: DataDir, limits: Limits, image: Image, *, repair: bool) -> Verified:
    """See `Store.verify`. Everything of the image is read; a blob that is altered is set aside."""
    result = Verified(image.id, image.name, [], [])
    for blob in image.blobs:
        fault = blobs.fault(data, blob.digest, blob.size)
        if fault:
            result.problems.append(fault)
            if repair:
                blobs.set_aside(data, blob.digest)
    whole = not result.problems
    with locks.locked(data, locks.work("tree", image.hex)):
        fault = trees.fault(data, image.tree, limits)
        if fault is None:
            _verify_derived(data, image, result, repair=repair)
            return result
        if not repair or not whole:
            result.problems.append(fault)
            return result
        try:
            with Workspace(data) as workspace:
                trees.render(data, workspace, image, limits)
                workspace.sync()
                trees.publish(data, workspace, image.tree, replace=True)
            result.repaired.append(fault)
            derived.remove(data, image.tree)  # perhaps made of the altered tree; made at the next use
        except PodiumError as e:
            result.problems.append(f"{fault}; it can't be rendered again: {e.message}")
    return result


def _verify_derived(data: DataDir, image: Image, result: Verified, *, repair: bool) -> None:
    """The tree is whole; the file system image that was made of it, if one was, is made again if it is not."""
    if not derived.exists(data, image.tree):
        return
    fault = derived.fault(data, image.tree)
    if fault is None:
        return
    if not repair:
        result.problems.append(fault)
        return
    try:
        derived.rebuild(data, image.tree, image.id)
        result.repaired.append(fault)
    except PodiumError as e:
        result.problems.append(f"{fault}; it can't be made again: {e.message}")
