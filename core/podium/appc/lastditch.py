"""The permissive reading of manifests: any JSON object of the right kind, whatever is odd in it.

As the reference implementation's package of that name: for listing and collecting what strict parsing refuses.
"""

from __future__ import annotations

from podium.appc.jsonread import MAX_BYTES
from podium.errors import BadInput, LimitExceeded
from podium.named import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any


class LastditchImage(NamedTuple):
    """What of an image manifest could be read; a text that is missing or no text is empty."""

    name: str
    labels: Mapping[str, str]
    ac_version: str
    fault: str = ""


class LastditchApp(NamedTuple):
    """One app of a pod; `image_id` as it was written."""

    name: str
    image_name: str
    image_id: str
    labels: Mapping[str, str]


class LastditchPod(NamedTuple):
    """What of a pod manifest could be read; `fault` is why strict parsing refused it, where `describe` tried that."""

    apps: tuple[LastditchApp, ...]
    ac_version: str
    fault: str = ""


def lastditch_image(data: bytes | dict[str, Any]) -> LastditchImage:
    """An image's name, labels and version of the specification.

    Raises:
        BadInput: it is no JSON object whose acKind is ImageManifest.
    """
    manifest = _object(data, "ImageManifest")
    return LastditchImage(_text(manifest, "name"), _labels(manifest.get("labels")), _text(manifest, "acVersion"))


def lastditch_pod(data: bytes | dict[str, Any]) -> LastditchPod:
    """A pod's apps with their images, and the version of the specification.

    Raises:
        BadInput: it is no JSON object whose acKind is PodManifest.
    """
    manifest = _object(data, "PodManifest")
    listed = manifest.get("apps")
    apps = []
    for app in listed if isinstance(listed, list) else ():
        if isinstance(app, dict):
            image = app.get("image")
            image = image if isinstance(image, dict) else {}
            labels = _labels(image.get("labels"))
            apps.append(LastditchApp(_text(app, "name"), _text(image, "name"), _text(image, "id"), labels))
    return LastditchPod(tuple(apps), _text(manifest, "acVersion"))


def _object(data: bytes | dict[str, Any], kind: str) -> dict[str, Any]:
    import json

    value: Any = data
    if not isinstance(data, dict):
        if len(data) > MAX_BYTES:
            raise LimitExceeded(f"the {kind} is larger than {MAX_BYTES} bytes")
        text = bytes(data).decode("utf-8-sig", errors="replace").rstrip("\0 \t\r\n")
        try:
            value = json.loads(text, parse_int=str, strict=False)
        except (ValueError, RecursionError) as e:
            raise BadInput(f"the {kind} is no JSON: {e}") from None
    if not isinstance(value, dict) or value.get("acKind") != kind:
        raise BadInput(f"it is no JSON object whose acKind is {kind}")
    return value


def _text(values: dict[str, Any], key: str) -> str:
    value = values.get(key)
    return clean(value) if isinstance(value, str) else ""


def clean(text: str, limit: int = 1024) -> str:
    """Text that is safe to print: no control character, line break or half surrogate, not endless."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text[:limit])


def _labels(labels: Any) -> dict[str, str]:
    result = {}
    for label in labels if isinstance(labels, list) else ():
        if isinstance(label, dict) and (name := _text(label, "name")):
            result[name] = _text(label, "value")
    return result
