"""The store: images by name and id, their blobs and trees. Nothing in it is removed while a pod refers to it.

What `run` needs, an image by its name and the presence of its tree, is read from two files; the SQLite index is for
listings, prefixes and what has no link yet.
"""

from __future__ import annotations

import os

from podium import records
from podium.clock import rfc3339
from podium.errors import Ambiguous, BadUsage, Corrupt, InUse, LimitExceeded, NotFound
from podium.events import images as events
from podium.paths import DataDir
from podium.store import locks, naming, usage
from podium.store.image import PREFIX, Image, read_record
from podium.store.limits import Limits
from podium.trace import trace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from podium.store.collecting import Collected
    from podium.store.index import Problem
    from podium.store.verifying import Verified

__all__ = ["Limits", "Store"]
MIN_PREFIX = 6  # hex digits
_HEX = frozenset("0123456789abcdef")


class Store:
    """The images of one data directory."""

    def __init__(self, data: DataDir, limits: Limits = Limits()) -> None:  # noqa: B008  (immutable)
        self.data = data
        self.limits = limits

    def shared(self) -> AbstractContextManager[None]:
        """Hold the store's lock shared: what is found is not removed meanwhile."""
        return locks.locked(self.data, locks.STORE, shared=True)

    def exclusive(self) -> AbstractContextManager[None]:
        """Hold the store's lock alone: nobody is about to refer to what no pod refers to."""
        return locks.locked(self.data, locks.STORE)

    def images(self) -> list[Image]:
        """All images that can be read, by name. A damaged record costs its own image only; `problems` has those."""
        from podium.store.index import survey

        return sorted(survey(self.data)[0], key=lambda i: (i.name, i.id))

    def problems(self) -> list[Problem]:
        """The records that can't be read."""
        from podium.store.index import survey

        return survey(self.data)[1]

    def resolve(self, ref: str) -> Image:
        """The image that `ref` names: name[:tag] (tag `latest`, or the only one), `sha256:<hex>`, or ≥ 6 digits of it.

        Raises:
            BadUsage: `ref` is empty.
            NotFound: there is none.
            Ambiguous: it fits several.
            Corrupt: the record of the image with this id is damaged.
        """
        if not ref:
            raise BadUsage("an empty name is no image")
        digits = ref.removeprefix(PREFIX)
        is_id = _HEX.issuperset(digits)
        if is_id and len(digits) == 64:
            try:
                return read_record(self.data, digits)
            except FileNotFoundError:
                raise self._not_found(ref) from None
        if not ref.startswith(PREFIX):
            image = self._by_name(ref)
            if image is not None:
                return image
        if is_id and len(digits) >= MIN_PREFIX:
            return self._by_prefix(ref, digits)
        raise self._not_found(ref)

    def _by_name(self, ref: str) -> Image | None:
        name, tag = naming.split(ref)
        full = f"{name}:{naming.LATEST if tag is None else tag}"
        linked = naming.look_up(self.data, full)
        if linked is not None:
            try:
                image = read_record(self.data, linked)
                if full in image.references:
                    return image
            except (FileNotFoundError, Corrupt):
                pass  # the link is only a cache
        images = self.images()
        found = [i for i in images if full in i.references]
        if found:
            return max(found, key=lambda i: i.tagged)
        if tag is not None:
            return None
        others = [i for i in images if any(r.rpartition(":")[0] == name for r in i.references)]
        if len(others) > 1:
            known = ", ".join(sorted(r for i in others for r in i.references if r.rpartition(":")[0] == name)[:8])
            raise Ambiguous(f"{ref!r} has no tag 'latest', and fits several images: {known}", subject=ref)
        return others[0] if others else None

    def _by_prefix(self, ref: str, digits: str) -> Image:
        found = [
            n.removesuffix(".json")
            for n in os.listdir(self.data.images)
            if n.startswith(digits) and n.endswith(".json")
        ]
        if not found:
            raise self._not_found(ref)
        if len(found) > 1:
            raise Ambiguous(
                f"{ref!r} fits {len(found)} images: {', '.join(f[:16] for f in sorted(found)[:8])}",
                hint="give more digits of the id",
                subject=ref,
            )
        try:
            return read_record(self.data, found[0])
        except FileNotFoundError:
            raise self._not_found(ref) from None

    def _not_found(self, ref: str) -> NotFound:
        digits = ref.removeprefix(PREFIX)
        short = f"; an id needs at least {MIN_PREFIX} digits" if _HEX.issuperset(digits) else ""
        hint = f"'podium image list' shows all; 'podium image import' and 'fetch' add some{short}"
        # Engines that write archives put a registry before short names: docker.io/library/web for web.
        name = "/" + naming.split(ref)[0]
        longer = sorted(r for i in self.images() for r in i.references if r.rpartition(":")[0].endswith(name))
        if longer:
            hint = f"there is {', '.join(longer[:8])}; a name is given whole"
        return NotFound(f"no image {ref!r}", hint=hint, subject=ref)

    def add(self, image: Image) -> Image:
        """Write an image's record; its names are taken from whoever has them. Returns what was written.

        An image that is there already keeps its names and the time of its first import.
        """
        with locks.locked(self.data, locks.RECORDS):
            try:
                known = read_record(self.data, image.hex)
            except (FileNotFoundError, Corrupt):
                known = None
            names = image.references
            if known is not None:
                image = image._replace(imported=known.imported)
            if known is not None:
                return self._give(image, names, known.references)
            with events.transition(self.data, events.IMPORTED, image.hex, image.name, image.imported):
                return self._give(image, names, [])

    def tag(self, ref: str, name: str) -> Image:
        """Give an image a further name, NAME[:TAG], which it takes from whoever has it.

        Raises:
            BadInput: it is no name.
            NotFound, Ambiguous: as `resolve`.
        """
        full = ":".join(naming.split_name(name))
        with locks.locked(self.data, locks.RECORDS):
            image = self.resolve(ref)
            return self._give(image, [full], image.references)

    def _give(self, image: Image, new: list[str], old: list[str]) -> Image:
        """Write the record with new and old names. A link goes before what it says becomes wrong."""
        losers = [i for i in self.images() if i.id != image.id and any(r in new for r in i.references)]
        for reference in new:
            naming.forget(self.data, reference)
        image = image.with_references(list(dict.fromkeys((*new, *old))), rfc3339())
        self._write(image)
        trace("image:named")
        for loser in losers:
            self._write(loser.with_references([r for r in loser.references if r not in new], loser.tagged))
        for reference in image.references:
            naming.remember(self.data, reference, image.hex)
        return image

    def _write(self, image: Image) -> None:
        from podium.linux.files import write_atomic

        data = records.seal(image.record()) + b"\n"
        if len(data) > records.MAX_RECORD:
            raise LimitExceeded(f"the record of image {image.name} would have {len(data)} bytes", subject=image.id)
        write_atomic(self.data.image(image.hex), data)

    def ensure_tree(self, image: Image, progress: Callable[[int], None] | None = None) -> str:
        """Make sure that the image is rendered; returns the id of its tree.

        Raises:
            Corrupt: a blob is missing or damaged.
        """
        usage.note(self.data, image.hex)
        if not os.path.exists(os.path.join(self.data.tree(image.tree), "tree.json")):
            from podium.store import trees
            from podium.store.workspace import Workspace

            with locks.locked(self.data, locks.work("tree", image.hex)), Workspace(self.data) as workspace:
                if not trees.is_rendered(self.data, image.tree):
                    trees.render(self.data, workspace, image, self.limits, progress)
                    workspace.sync()
                    trees.publish(self.data, workspace, image.tree)
        return image.tree

    def last_used(self, image: Image) -> float | None:
        """When a pod was last prepared from the image or run, in seconds since the epoch; None if that is not known."""
        return usage.last(self.data, image.hex)

    def remove(self, ref: str) -> str:
        """Remove an image, and the blobs and trees that nothing else needs; returns its id.

        When `ref` is one of several names of the image, only that name goes.

        Raises:
            NotFound: no such image.
            InUse: a pod refers to it; names the pods.
        """
        from podium.store import collecting

        with self.exclusive(), locks.locked(self.data, locks.RECORDS):
            image = self.resolve(ref)
            name, tag = naming.split(ref)
            full = f"{name}:{naming.LATEST if tag is None else tag}"
            if full in image.references and len(image.references) > 1:
                naming.forget(self.data, full)
                self._write(image.with_references([r for r in image.references if r != full], image.tagged))
                return image.id
            users = collecting.users(self.data, image)
            if users:
                raise InUse(
                    f"image {image.name or image.id} is used by {len(users)} pods: {', '.join(users[:8])}"
                    if len(users) > 1
                    else f"image {image.name or image.id} is used by pod {users[0]}",
                    hint="'podium rm' and 'podium gc' remove pods that have ended",
                    subject=image.id,
                )
            collecting.remove_image(self.data, image)
        return image.id

    def gc(self, grace: float = 86400.0, *, dry_run: bool = False) -> Collected:
        """Remove images without a name that were not used for `grace` seconds, and what no image or pod needs."""
        from podium.store.collecting import collect

        return collect(self.data, grace, dry_run=dry_run)

    def verify(self, refs: list[str] | None = None, *, repair: bool = True) -> list[Verified]:
        """Hold images (all, if none are named) against their digests; an altered tree is rendered again.

        Raises:
            NotFound: one that was named is not there, or was removed meanwhile.
        """
        from podium.store.verifying import Verified, verify

        images = [self.resolve(r) for r in refs] if refs else self.images()
        unreadable = [] if refs else [Verified(PREFIX + p.hex, "", [p.error.message], []) for p in self.problems()]
        found = []
        for image in images:
            try:
                result = verify(self.data, self.limits, image, repair=repair)
            except FileNotFoundError:
                if not self._is_gone(image):
                    raise
                result = None
            if result is None or ((result.problems or result.repaired) and self._is_gone(image)):
                if refs:
                    raise NotFound(f"image {image.name or image.id} was removed meanwhile", subject=image.id)
                continue  # who removes an image takes one of its files after the other
            found.append(result)
        return found + unreadable

    def _is_gone(self, image: Image) -> bool:
        try:
            self.resolve(image.id)
        except NotFound:
            return True
        except Corrupt:
            pass
        return False
