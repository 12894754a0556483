"""The store: images by name and id, their blobs and trees. Nothing in it is removed while a pod refers to it."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from podium import records
from podium.errors import Ambiguous, BadUsage, Corrupt, InUse, NotFound
from podium.paths import DataDir
from podium.store.image import PREFIX, Image

MIN_PREFIX = 6  # hex digits
_HEX = frozenset("0123456789abcdef")


class Limits(NamedTuple):
    """What unpacking an image may take."""

    max_bytes: int = 64 << 30
    max_entries: int = 4_000_000


class Store:
    """The images of one data directory."""

    def __init__(self, data: DataDir, limits: Limits = Limits()) -> None:  # noqa: B008  (immutable)
        self.data = data
        self.limits = limits

    @contextmanager
    def shared(self) -> Iterator[None]:
        """Hold the store's lock shared: what is found is not removed meanwhile."""
        with self._locked(fcntl.LOCK_SH):
            yield

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """Hold the store's lock alone: nobody is about to refer to what no pod refers to."""
        with self._locked(fcntl.LOCK_EX):
            yield

    @contextmanager
    def _locked(self, kind: int) -> Iterator[None]:
        fd = os.open(os.path.join(self.data.locks, "store"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, kind)
            yield
        finally:
            os.close(fd)

    def images(self) -> list[Image]:
        """All images that can be read, by name. A damaged record costs its own image only."""
        images = []
        try:
            names = os.listdir(self.data.images)
        except FileNotFoundError:
            return []
        for name in names:
            if name.endswith(".json"):
                try:
                    images.append(self._read(name.removesuffix(".json")))
                except (Corrupt, FileNotFoundError):
                    continue
        return sorted(images, key=lambda i: (i.name, i.id))

    def _read(self, hex_id: str) -> Image:
        what = f"the record of image {hex_id[:12]}"
        try:
            return Image.from_record(records.read(self.data.image(hex_id), what))
        except (KeyError, TypeError, ValueError) as e:
            raise Corrupt(f"{what} is damaged: {e}", subject=hex_id) from None

    def resolve(self, ref: str) -> Image:
        """The image that `ref` names: `sha256:<hex>`, a prefix of its digits, or name[:tag] (tag `latest`).

        Raises:
            BadUsage: `ref` is empty.
            NotFound: there is none.
            Ambiguous: the prefix fits several.
        """
        if not ref:
            raise BadUsage("an empty name is no image")
        digits = ref.removeprefix(PREFIX)
        is_id = set(digits) <= _HEX
        if is_id and len(digits) == 64:
            try:
                return self._read(digits)
            except FileNotFoundError:
                raise self._not_found(ref) from None
        name, _, tag = ref.rpartition(":") if ":" in ref.rpartition("/")[2] else (ref, "", "latest")
        images = self.images()
        found = [i for i in images if i.name == name and tag in i.tags]
        if not found and is_id and len(digits) >= MIN_PREFIX:
            found = [i for i in images if i.hex.startswith(digits)]
        if not found:
            raise self._not_found(ref)
        if len(found) > 1:
            raise Ambiguous(f"{ref!r} fits {len(found)} images", hint="give more digits of the id", subject=ref)
        return found[0]

    def _not_found(self, ref: str) -> NotFound:
        return NotFound(
            f"no image {ref!r}", hint="'podium image list' shows all; 'podium image import' adds", subject=ref
        )

    def add(self, image: Image) -> Image:
        """Write an image's record; its name and tags are taken from whoever has them. Returns what was written."""
        with self._locked(fcntl.LOCK_SH), self._names():
            for other in self.images():
                taken = tuple(t for t in other.tags if t in image.tags)
                if other.name == image.name and taken and other.id != image.id:
                    left = tuple(t for t in other.tags if t not in taken)
                    self._write(other._replace(tags=left))
            try:
                known = self._read(image.hex)
            except (FileNotFoundError, Corrupt):
                known = None
            if known is not None and known.name == image.name:
                image = image._replace(tags=tuple(dict.fromkeys((*known.tags, *image.tags))), imported=known.imported)
            self._write(image)
            return image

    @contextmanager
    def _names(self) -> Iterator[None]:
        fd = os.open(os.path.join(self.data.locks, "images"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            yield
        finally:
            os.close(fd)

    def _write(self, image: Image) -> None:
        from podium.linux.files import write_atomic

        write_atomic(self.data.image(image.hex), records.seal(image.record()) + b"\n")

    def ensure_tree(self, image: Image) -> str:
        """Make sure that the image is rendered; returns the id of its tree.

        Raises:
            Corrupt: a blob is missing or damaged.
        """
        if not os.path.exists(os.path.join(self.data.tree(image.tree), "tree.json")):
            from podium.store.trees import render

            render(self.data, image, self.limits)
        return image.tree

    def remove(self, ref: str) -> str:
        """Remove an image, and the blobs and trees that nothing else needs; returns its id.

        Raises:
            NotFound: no such image.
            InUse: a pod refers to it; names the pods.
        """
        from podium.linux.files import fsync_dir
        from podium.linux.tree import remove_tree
        from podium.pods.envelope import referenced

        with self.exclusive():
            image = self.resolve(ref)
            used = referenced(self.data)
            if image.id in used.images or image.tree in used.trees:
                raise InUse(
                    f"image {image.name or image.id} is used by a pod",
                    hint="'podium list' shows which; 'podium rm' or 'podium gc' removes pods that have ended",
                    subject=image.id,
                )
            if used.unreadable:
                raise InUse(
                    f"the envelope of pod {used.unreadable[0]} can't be read, so it may use the image",
                    hint=f"'podium rm --force {used.unreadable[0]}' first",
                    subject=image.id,
                )
            os.unlink(self.data.image(image.hex))
            fsync_dir(self.data.images)
            needed = {blob.digest for other in self.images() for blob in other.blobs}
            for blob in image.blobs:
                if blob.digest not in needed and os.path.exists(
                    path := self.data.blob(blob.digest.removeprefix(PREFIX))
                ):
                    os.unlink(path)
            if os.path.isdir(self.data.tree(image.tree)):
                remove_tree(self.data.trees, image.tree)
        return image.id
