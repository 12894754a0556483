"""What an importer is given, and what all of them need."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from podium.appc.jsonread import loads
from podium.errors import BadInput, Corrupt, LimitExceeded
from podium.store import blobs
from podium.store.image import PREFIX, Blob, Image, read_record
from podium.store.limits import located
from podium.store.store import Store
from podium.store.unpack.streams import Source
from podium.store.workspace import Workspace

_HEX = frozenset("0123456789abcdef")


class Job(NamedTuple):
    """One import."""

    store: Store
    workspace: Workspace
    path: str
    name: str | None
    exec: Sequence[str] | None
    platform: str | None
    report: Callable[[int], None] | None

    def put(
        self, source: Source, role: str, media_type: str, digest: str | None = None, size: int | None = None
    ) -> Blob:
        """Keep a blob, and verify it. One that the store has is not read."""
        if digest is not None and size is not None and blobs.adopt(self.store.data, self.workspace, digest, size):
            return Blob(digest, size, role, media_type)
        try:
            found, written = blobs.put(
                self.workspace,
                source,
                limit=self.store.limits.max_bytes,
                digest=digest,
                size=size,
                progress=self.report,
            )
        except BadInput as e:
            raise located(e, self.path) from None
        return Blob(found, written, role, media_type)

    def known(self, digits: str) -> Image | None:
        """An image that the store has whole already; its blobs can't be taken from this import then."""
        try:
            image = read_record(self.store.data, digits)
        except (FileNotFoundError, Corrupt):
            return None
        whole = all(blobs.adopt(self.store.data, self.workspace, b.digest, b.size) for b in image.blobs)
        return image if whole else None

    def read_json(self, source: Source, what: str, size: int | None = None) -> tuple[dict[str, Any] | list[Any], bytes]:
        """A JSON document of the image, and its bytes.

        Raises:
            BadInput: it is none, or neither object nor list; names the place.
            LimitExceeded: it is larger than a manifest may be.
        """
        data = self.read_document(source, what, size)
        return self.parse(data, what), data

    def read_document(self, source: Source, what: str, size: int | None = None) -> bytes:
        """The bytes of a manifest, index or configuration. Raises LimitExceeded."""
        limit = self.store.limits.max_manifest
        if size is not None and size > limit:
            raise LimitExceeded(f"{self.path}: {what} has {size} bytes, more than {limit}", subject=self.path)
        parts, left = [], limit + 1
        while left and (chunk := source.read(left)):
            parts.append(chunk)
            left -= len(chunk)
        if not left:
            raise LimitExceeded(f"{self.path}: {what} has more than {limit} bytes", subject=self.path)
        return b"".join(parts)

    def parse(self, data: bytes, what: str) -> dict[str, Any] | list[Any]:
        """A JSON document of the image. Raises BadInput if it is none, or neither object nor list."""
        value = loads(data, f"{self.path}: {what}")
        if not isinstance(value, dict | list):
            raise BadInput(f"{self.path}: {what} is no JSON object", subject=self.path)
        return value


def digits_of(digest: Any, what: str) -> str:
    """The hex digits of a `sha256:` digest. Raises BadInput."""
    digits = digest.removeprefix(PREFIX) if isinstance(digest, str) else ""
    if not str(digest).startswith(PREFIX) or len(digits) != 64 or not _HEX.issuperset(digits):
        raise BadInput(f"{what}: {digest!r:.100} is no sha256 digest")
    return digits
