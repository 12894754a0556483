"""ImageManifest: what an image is called, holds, needs and how its app is run (appc aci.md)."""

from __future__ import annotations

from podium.appc import jsonread, names
from podium.appc.app import App, parse_annotations, parse_app, parse_labels
from podium.appc.fields import Field, unpairs
from podium.named import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

KIND = "ImageManifest"
_KNOWN = frozenset(
    ("acKind", "acVersion", "name", "labels", "app", "annotations", "dependencies", "pathWhitelist"),
)
_DEPENDENCY = frozenset(("imageName", "imageID", "labels", "size"))


class Dependency(NamedTuple):
    """An image whose files come before those of the image that depends on it; `size` in bytes."""

    image_name: str
    image_id: str | None = None
    labels: Mapping[str, str] = {}
    size: int | None = None
    extra: Mapping[str, Any] = {}

    def to_json(self) -> dict[str, Any]:
        """As it stands in a manifest."""
        optional = {"imageID": self.image_id, "labels": unpairs(self.labels), "size": self.size}
        return {**self.extra, "imageName": self.image_name, **{k: v for k, v in optional.items() if v}}


class ImageManifest(NamedTuple):
    """See the specification for each field; `extra` are members that podium does not know, kept as they are.

    Of labels, annotations and environment variables only names and values are kept.
    """

    name: str
    labels: Mapping[str, str] = {}
    app: App | None = None
    annotations: Mapping[str, str] = {}
    dependencies: tuple[Dependency, ...] = ()
    path_whitelist: tuple[str, ...] = ()
    ac_version: str = names.SPEC_VERSION
    extra: Mapping[str, Any] = {}

    def to_json(self) -> dict[str, Any]:
        """The manifest as `parse_image` reads it."""
        optional = {
            "labels": unpairs(self.labels),
            "app": self.app.to_json() if self.app else None,
            "annotations": unpairs(self.annotations),
            "dependencies": [d.to_json() for d in self.dependencies],
            "pathWhitelist": list(self.path_whitelist),
        }
        required = {"acKind": KIND, "acVersion": self.ac_version, "name": self.name}
        return {**required, **{k: v for k, v in optional.items() if v}, **self.extra}


def open_manifest(data: bytes | dict[str, Any], kind: str) -> tuple[Field, str]:
    """The object that a manifest is, and its acVersion.

    Raises:
        BadInput: it is no JSON object of that kind, or of a version of the specification that podium does not know.
    """
    if isinstance(data, dict):
        jsonread.check_value(data, f"the {kind}")
        root = Field(data, "")
    else:
        root = Field(jsonread.loads(data, f"the {kind}"), "")
    found = root.need("acKind")
    if found.text() != kind:
        raise found.bad(f"must be {kind!r}, is {found.text()[:64]!r}")
    version = root.need("acVersion")
    fault = names.ac_version_fault(version.text())
    if fault:
        raise version.bad(fault)
    return root, version.text()


def parse_image(data: bytes | dict[str, Any], *, own: bool = False) -> ImageManifest:
    """An image manifest, by the specification's rules.

    Args:
        data: the JSON document, or what was read from it.
        own: podium wrote it itself, from an OCI image perhaps (see `parse_app`).

    Raises:
        SyntaxFault: it is no JSON; line and column are told.
        LimitExceeded: it is too large, or nested too deep.
        BadInput: it is not as the specification says; the message starts with the place, as in `app.exec[0]`.
    """
    root, version = open_manifest(data, KIND)
    name, app = root.need("name").identifier(), root.get("app")
    dependencies, whitelist = root.get("dependencies"), root.get("pathWhitelist")
    return ImageManifest(
        name=name,
        labels=parse_labels(root.get("labels")),
        app=parse_app(app, own=own) if app else None,
        annotations=parse_annotations(root.get("annotations")),
        dependencies=tuple(map(_dependency, dependencies.items())) if dependencies else (),
        path_whitelist=tuple(p.absolute() for p in whitelist.items()) if whitelist else (),
        ac_version=version,
        extra=root.extra(_KNOWN),
    )


def _dependency(field: Field) -> Dependency:
    image_id, size = field.get("imageID"), field.get("size")
    return Dependency(
        field.need("imageName").identifier(),
        image_id.image_id() if image_id else None,
        parse_labels(field.get("labels")),
        (size.integer(0, 2**63 - 1) or None) if size else None,
        field.extra(_DEPENDENCY),
    )
