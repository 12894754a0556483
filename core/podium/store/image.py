"""An image's record: images/<hex>.json, the truth of which the index is a copy."""

from __future__ import annotations

from typing import Any, NamedTuple

PREFIX = "sha256:"


class Blob(NamedTuple):
    """A blob that an image needs.

    Attributes:
        digest: `sha256:<hex>` of its bytes.
        size: bytes.
        role: `layer` (a tar archive, perhaps compressed, in the order in which they are applied), `aci`, `config`,
            `manifest` or `rootfs`.
        media_type: as its format calls it.
    """

    digest: str
    size: int
    role: str
    media_type: str = ""


class Image(NamedTuple):
    """An image in the store.

    Attributes:
        id: `sha256:<hex>`.
        name: without tag; empty for one whose name was given to another.
        tags: of that name.
        format: `aci`, `oci`, `docker-archive` or `rootfs`.
        manifest: the appc ImageManifest, as JSON.
        blobs: what it is made of.
        tree: id of its rendered tree.
        tree_size: bytes of file content in it.
        created: RFC 3339, as the image says; None if it does not.
        imported: RFC 3339.
        arch, os: as appc spells them.
    """

    id: str
    name: str
    tags: tuple[str, ...]
    format: str
    manifest: dict[str, Any]
    blobs: tuple[Blob, ...]
    tree: str
    tree_size: int
    created: str | None
    imported: str
    arch: str | None
    os: str | None

    @property
    def hex(self) -> str:
        """The id without its prefix."""
        return self.id.removeprefix(PREFIX)

    @property
    def size(self) -> int:
        """Bytes of its blobs."""
        return sum(blob.size for blob in self.blobs)

    def record(self) -> dict[str, Any]:
        """As it is stored."""
        return {"image": 1, **self._asdict(), "tags": list(self.tags), "blobs": [b._asdict() for b in self.blobs]}

    @classmethod
    def from_record(cls, data: dict[str, Any]) -> Image:
        """Raises KeyError, TypeError or ValueError when a field is missing or wrong."""
        known = {k: data[k] for k in cls._fields}
        known["tags"] = tuple(map(str, data["tags"]))
        known["blobs"] = tuple(Blob(b["digest"], int(b["size"]), b["role"], b["media_type"]) for b in data["blobs"])
        return cls(**known)

    def to_json(self) -> dict[str, Any]:
        """One element of `podium.image-list/1`."""
        keys = ("id", "name", "format", "tree_size", "created", "imported", "arch", "os")
        return {
            **{k: getattr(self, k) for k in keys},
            "tags": list(self.tags),
            "size": self.size,
            "last_used": None,
        }
