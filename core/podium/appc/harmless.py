"""Manifests that an older rule of the specification allowed: without what podium does not need to run them.

Names of images, labels, annotations and the version of the specification identify and describe; an envelope or an
image's record says the same. A manifest that is invalid for their sake alone is run. What an app is, is never guessed.
"""

from __future__ import annotations

from podium.appc import jsonread
from podium.appc.app import parse_annotations, parse_labels
from podium.appc.fields import Field
from podium.appc.image_manifest import ImageManifest, parse_image
from podium.appc.names import SPEC_VERSION, is_ac_identifier, is_image_id
from podium.appc.pod_manifest import PodManifest, parse_pod
from podium.errors import BadInput

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

_NO_ID = "sha256-" + "0" * 64  # in place of an id that is none; the envelope has the image's
_NO_NAME = "unnamed"


def usable_pod(data: bytes) -> PodManifest:
    """A pod's own manifest, to run it.

    Raises:
        BadInput: why it is invalid, where that makes a difference.
    """
    try:
        return parse_pod(data, own=True)
    except jsonread.SyntaxFault:
        raise
    except BadInput as fault:
        try:
            return parse_pod(_pod(jsonread.loads(data, "the PodManifest")), own=True)
        except (BadInput, AttributeError):
            raise fault from None


def usable_image(manifest: dict[str, Any]) -> ImageManifest:
    """An image's manifest, to make a pod of it.

    Raises:
        BadInput: why it is invalid, where that makes a difference.
    """
    try:
        return parse_image(manifest, own=True)
    except BadInput as fault:
        try:
            return parse_image(_image(manifest), own=True)
        except (BadInput, AttributeError):
            raise fault from None


def _pod(manifest: dict[str, Any]) -> dict[str, Any]:
    apps = []
    for app in manifest.get("apps") or []:
        image = app.get("image")
        image = dict(image) if isinstance(image, dict) else {}
        if not _is(image.get("id"), is_image_id):
            image["id"] = _NO_ID
        if not _is(image.get("name"), is_ac_identifier):
            image.pop("name", None)
        apps.append({**app, "image": _described(image, "labels"), **_described(app, "annotations", only=True)})
    texts = {
        key: {k: v for k, v in manifest[key].items() if isinstance(v, str)}
        for key in ("userAnnotations", "userLabels")
        if isinstance(manifest.get(key), dict)
    }
    return {**_described(manifest, "annotations"), **texts, "apps": apps, "acVersion": SPEC_VERSION}


def _image(manifest: dict[str, Any]) -> dict[str, Any]:
    manifest = _described(_described(manifest, "annotations"), "labels")
    if not _is(manifest.get("name"), is_ac_identifier):
        manifest["name"] = _NO_NAME
    return {**manifest, "acVersion": SPEC_VERSION}


def _is(value: object, test: Callable[[str], bool]) -> bool:
    return isinstance(value, str) and test(value)


def _described(value: dict[str, Any], key: str, *, only: bool = False) -> dict[str, Any]:
    """The object with those of its labels or annotations that are valid; `only`: that member alone."""
    parse = parse_labels if key == "labels" else parse_annotations
    kept: list[Any] = []
    listed = value.get(key)
    for item in listed if isinstance(listed, list) else ():
        try:
            parse(Field([*kept, item], key))
        except BadInput:
            continue
        kept.append(item)
    new = {key: kept} if key in value else {}
    return new if only else {**value, **new}
