"""An image's record: images/<hex>.json, the truth of which the index and the name links are copies.

An image's id is the sha256 of: the archive without compression (ACI), the image configuration (OCI, docker), the
blob's digest and the manifest (rootfs). So it says what the image contains and how it is run, and the same image
imported again, from another file or format perhaps, is the same image.
"""

from __future__ import annotations

from podium import records
from podium.errors import Corrupt, LimitExceeded
from podium.named import NamedTuple
from podium.paths import DataDir

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

PREFIX = "sha256:"


class Blob(NamedTuple):
    """A blob that an image needs.

    Attributes:
        digest: `sha256:<hex>` of its bytes.
        size: bytes.
        role: `layer` (a tar archive, perhaps compressed, in the order in which they are applied), `aci`, `dependency`
            (an ACI whose files come before those of the image itself), `rootfs`, `config` or `manifest`.
        media_type: as its format calls it.
        paths: of an ACI, the only ones that are taken from it (appc's pathWhitelist); empty: all.
    """

    digest: str
    size: int
    role: str
    media_type: str = ""
    paths: tuple[str, ...] = ()


class Image(NamedTuple):
    """An image in the store.

    Attributes:
        id: `sha256:<hex>`.
        name: without tag; it stays when the last tag was given to another image.
        tags: of that name.
        format: `aci`, `oci`, `docker-archive` or `rootfs`.
        manifest: the appc ImageManifest, as JSON.
        blobs: what it is made of.
        tree: id of its rendered tree.
        tree_size: bytes of file content in it.
        created: RFC 3339, as the image says; None if it does not.
        imported: RFC 3339.
        arch, os: as appc spells them.
        aliases: further names, each as `name:tag`.
        tagged: RFC 3339, when a name was last given; where two records have one name, the later has it.
        diff_ids: `sha256:<hex>` of each layer without compression, which rendering verifies.
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
    aliases: tuple[str, ...] = ()
    tagged: str = ""
    diff_ids: tuple[str, ...] = ()

    @property
    def hex(self) -> str:
        """The id without its prefix."""
        return self.id.removeprefix(PREFIX)

    @property
    def size(self) -> int:
        """Bytes of its blobs."""
        return sum(blob.size for blob in self.blobs)

    @property
    def references(self) -> list[str]:
        """Everything it is called, as `name:tag`."""
        return [*(f"{self.name}:{tag}" for tag in self.tags), *self.aliases]

    def with_references(self, references: list[str], tagged: str) -> Image:
        """The image with these names: the tags of the first one's name, and the others as aliases."""
        if not references:
            return self._replace(tags=(), aliases=(), tagged=tagged)
        names = [r.rpartition(":")[0] for r in references]
        name = self.name if self.name in names else names[0]
        tags = tuple(r.rpartition(":")[2] for r, n in zip(references, names, strict=True) if n == name)
        aliases = tuple(r for r, n in zip(references, names, strict=True) if n != name)
        return self._replace(name=name, tags=tags, aliases=aliases, tagged=tagged)

    def record(self) -> dict[str, Any]:
        """As it is stored."""
        lists = {k: list(getattr(self, k)) for k in ("tags", "aliases", "diff_ids")}
        return {"image": 1, **self._asdict(), **lists, "blobs": [b._asdict() for b in self.blobs]}

    @classmethod
    def from_record(cls, data: dict[str, Any]) -> Image:
        """Fields that this version does not know are ignored.

        Raises:
            KeyError, TypeError, ValueError: a field is missing or wrong.
        """
        known = {k: data[k] for k in cls._fields if k in data or k not in cls._field_defaults}
        for key in ("tags", "aliases", "diff_ids"):
            known[key] = tuple(map(_text, data.get(key, ())))
        known["blobs"] = tuple(
            Blob(
                _text(b["digest"]),
                int(b["size"]),
                _text(b["role"]),
                _text(b["media_type"]),
                tuple(map(_text, b.get("paths", ()))),
            )
            for b in data["blobs"]
        )
        for key in ("id", "name", "format", "tree", "imported"):
            _text(known[key])
        if not isinstance(known["manifest"], dict) or not isinstance(known["tree_size"], int):
            raise TypeError("its manifest is no object, or its size no number")
        return cls(**known)

    def to_json(self, last_used: str | None = None) -> dict[str, Any]:
        """One element of `podium.image-list/1`."""
        keys = ("id", "name", "format", "tree_size", "created", "imported", "arch", "os")
        return {
            **{k: getattr(self, k) for k in keys},
            "tags": list(self.tags),
            "aliases": list(self.aliases),
            "size": self.size,
            "last_used": last_used,
        }


def read_record(data: DataDir, digits: str) -> Image:
    """An image's record.

    Raises:
        FileNotFoundError: there is none.
        Corrupt: it is damaged.
    """
    what = f"the record of image {digits[:12]}"
    try:
        image = Image.from_record(records.read(data.image(digits), what))
    except Corrupt as e:
        raise type(e)(e.message + _once_called(data.image(digits)), hint=e.hint, subject=e.subject) from None
    except (KeyError, TypeError, ValueError, AttributeError) as e:
        raise Corrupt(f"{what} is damaged: {type(e).__name__} {e}", subject=digits) from None
    if image.hex != digits:
        raise Corrupt(f"{what} is damaged: it is that of another image", subject=digits)
    return image


def _once_called(path: str) -> str:
    """The image's name, if it can be made out of a damaged record."""
    from podium.appc.salvage import salvage

    try:
        names = salvage(records.read_bytes(path)).names
    except (OSError, LimitExceeded):
        return ""
    return f"; the image was called {names[0]}" if names else ""


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r:.80} is no text")
    return value
