"""Blobs, images' records and trees: each by its digest, and against each other."""

from __future__ import annotations

import os
from functools import partial

from podium.appc.salvage import describe
from podium.errors import Corrupt
from podium.fsck.lost import Lost, is_temporary, names
from podium.fsck.podfolders import Pods
from podium.fsck.report import READ_AGAIN, Report
from podium.records import Unreadable
from podium.sandbox import derived
from podium.store import blobs, locks, trees
from podium.store.image import PREFIX, Image, read_record
from podium.store.store import Store
from podium.store.workspace import Workspace

_READ_AGAIN = f"{READ_AGAIN}; if the disk is broken, import the image again"
_HEX = frozenset("0123456789abcdef")


class Content:
    """The check of the store.

    Attributes:
        images: those that can be read, by id.
    """

    def __init__(self, store: Store, report: Report, lost: Lost, pods: Pods) -> None:
        self._store, self._data = store, store.data
        self._report, self._lost, self._pods = report, lost, pods
        self._sure = not pods.unreadable  # else what nothing seems to need may be needed
        self._broken: set[str] = set()  # images whose blobs are not all there
        self.images: dict[str, Image] = {}

    def check(self) -> None:
        """Check all of it."""
        self._check_records()
        self._check_blobs()
        self._check_trees()

    def _check_records(self) -> None:
        found = names(self._data.images)
        for name in found:
            path = os.path.join(self._data.images, name)
            digits, ending = os.path.splitext(name)
            if is_temporary(name):
                self._leftover("temporary", path, f"{path} was never finished")
            elif ending == ".used" and f"{digits}.json" not in found:
                self._leftover(
                    "image-used", digits, f"image {digits[:12]} is gone, and the time of its last use is not"
                )
            elif ending == ".json" and not name.startswith("."):
                self._check_record(digits, path)

    def _check_record(self, digits: str, path: str) -> None:
        self._report.count("images")
        try:
            image = read_record(self._data, digits)
        except FileNotFoundError:
            return
        except Corrupt as e:
            self._sure = False
            advice = "import the image again; pods that were prepared from it are not affected"
            kept = isinstance(e, Unreadable) and os.path.isfile(path) and not os.path.islink(path)
            fix = None if kept else partial(self._lost.move, path)
            self._report.add("image-damaged", digits, e.message, _READ_AGAIN if kept else advice, fix=fix, mends=False)
            return
        self.images[image.id] = image
        from podium.quickjson import dumps

        level, what = describe(dumps(image.manifest).encode(), "image")
        if level != "strict":
            version = getattr(what, "ac_version", "") or "unknown"
            fault = getattr(what, "fault", "")
            message = f"the manifest of image {image.name} ({image.id}), appc {version}, is not valid today: {fault}"
            self._report.add("image-manifest", image.id, message, "it can be listed and removed", damage=False)

    def _check_blobs(self) -> None:
        needed = {b.digest: b.size for i in self.images.values() for b in i.blobs}
        stored = {PREFIX + n for n in names(self._data.blobs) if len(n) == 64 and _HEX.issuperset(n)}
        for digest in sorted(stored | needed.keys()):
            self._report.count("blobs")
            path = self._data.blob(digest.removeprefix(PREFIX))
            users = [i for i in self.images.values() if any(b.digest == digest for b in i.blobs)]
            if digest not in needed and self._sure:
                self._leftover("blob-orphan", digest, f"no image needs blob {digest}")
                continue
            size, kept = needed.get(digest, -1 if not os.path.exists(path) else _size(path)), False
            try:
                fault = blobs.damage(self._data, digest, size)
            except OSError as e:
                fault, kept = f"blob {digest} can't be read: {e.strerror}", os.path.isfile(path)
            if fault is None:
                continue
            self._broken.update(i.id for i in users)
            called = ", ".join(i.name or i.id for i in users) or "an image whose record is damaged"
            missing = digest not in stored
            self._report.add(
                "blob-missing" if missing else "blob-altered",
                digest,
                f"{fault}; needed by {called}",
                _READ_AGAIN if kept else f"import {called} again; pods that were prepared from it are not affected",
                fix=None if missing or kept else partial(self._lost.move, path),
                mends=False,
            )

    def _check_trees(self) -> None:
        by_tree = {i.tree: i for i in self.images.values()}
        stored = [name for name in names(self._data.trees) if not name.startswith(".")]
        for tree in sorted({*stored, *self._pods.trees}):
            self._report.count("trees")
            path = self._data.tree(tree)
            image, used = by_tree.get(tree), tree in self._pods.trees
            if image is None and not used and self._sure:
                self._leftover("tree-orphan", tree, f"no image and no pod needs tree {tree}", path)
                continue
            fault = trees.fault(self._data, tree, self._store.limits)
            if fault is None:
                continue
            half = os.path.isdir(path) and not trees.is_rendered(self._data, tree)
            if half and not used:
                self._leftover("tree-half-made", tree, f"tree {tree} was never finished", path)
                continue
            kind = "tree-altered" if os.path.isdir(path) and not half else "tree-missing"
            pods = f"; needed by pod {', '.join(self._pods.trees[tree][:5])}" if used else ""
            if image is None or image.id in self._broken:
                advice = "import its image again, then run 'podium fsck --repair'"
                self._report.add(kind, tree, fault + pods, advice)
            else:
                advice = f"'podium fsck --repair' renders it again from image {image.name or image.id}"
                self._report.add(kind, tree, fault + pods, advice, fix=partial(self._render, image), later=True)

    def _render(self, image: Image) -> str:
        """Make a tree again; what was there goes to lost+found in the same moment. Pods keep what they have mounted."""
        data = self._data
        with locks.locked(data, locks.work("tree", image.hex)), Workspace(data) as workspace:
            trees.render(data, workspace, image, self._store.limits)
            workspace.sync()
            old, moved = data.tree(image.tree), ""
            if os.path.lexists(old):
                moved = f", the old one {self._lost.replace(old, os.path.join(workspace.path, 'tree'))}"
            else:
                trees.publish(data, workspace, image.tree)
        derived.remove(data, image.tree)  # perhaps made of the altered tree; made at the next use
        return f"rendered again{moved}"

    def _leftover(self, kind: str, subject: str, message: str, path: str | None = None) -> None:
        if path is None:
            path = {
                "blob-orphan": self._data.blob(subject.removeprefix(PREFIX)),
                "image-used": self._data.used(subject),
            }.get(kind, subject)
        where = path
        advice = "'podium image gc' or 'podium fsck --repair' takes it away"
        self._report.add(kind, subject, message, advice, damage=False, fix=lambda: self._lost.move(where))


def _size(path: str) -> int:
    return os.stat(path, follow_symlinks=False).st_size
