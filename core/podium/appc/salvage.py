"""What can be found in a manifest whose JSON is broken, and the ladder of the three levels."""

from __future__ import annotations

from podium.appc import jsonread
from podium.appc.lastditch import LastditchImage, LastditchPod, clean, lastditch_image, lastditch_pod
from podium.errors import BadInput
from podium.named import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from podium.appc.image_manifest import ImageManifest
    from podium.appc.pod_manifest import PodManifest

SCAN_BYTES = 1 << 20  # looked at, from the start
_KEEP = 64  # of each kind of finding
_DEPTH = 32  # levels of which the keys are remembered; a manifest's names are at most five deep

# A string may end with the file, or at a control character, which no JSON string has: so each byte is looked at once.
_TOKEN = r'"(?:[^"\\\x00-\x1f]++|\\[^\x00-\x1f])*+"?|[{}\[\]:,]'
_ID = r"(?<![0-9a-z])(?:sha512[-:][0-9a-f]{12,128}|sha256[-:][0-9a-f]{64})(?![0-9a-f])"
_UUID = r"(?<![0-9a-f])[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}(?![0-9a-f])"


class Salvage(NamedTuple):
    """What was found; empty where nothing was.

    Attributes:
        ac_kind, ac_version: as they were written.
        names: of the image itself, or of the pod's apps.
        image_names: of the images of the pod's apps.
        ids: image ids, wherever they stand.
        uuids: texts of the form of a UUID, wherever they stand.
        fault: what is wrong with the JSON.
        line, column: where, counting from 1; 0 if the fault has no place.
    """

    ac_kind: str = ""
    ac_version: str = ""
    names: tuple[str, ...] = ()
    image_names: tuple[str, ...] = ()
    ids: tuple[str, ...] = ()
    uuids: tuple[str, ...] = ()
    fault: str = ""
    line: int = 0
    column: int = 0


def salvage(data: bytes) -> Salvage:
    """Find what can be found in the first MiB of any bytes; never raises."""
    import re

    fault, line, column = _fault(data)
    raw = bytes(data[:SCAN_BYTES])
    if raw.startswith((b"\xff\xfe", b"\xfe\xff")):
        text = raw.decode("utf-16", errors="replace")
    else:
        text = raw.decode("utf-8-sig", errors="replace")
    found: dict[str, list[str]] = {"acKind": [], "acVersion": [], "name": [], "apps.name": [], "apps.image.name": []}
    for key, value in _strings(text):
        if key in found and len(found[key]) < _KEEP:
            found[key].append(value)
    is_pod = "PodManifest" in found["acKind"] or (not found["acKind"] and bool(found["apps.name"]))
    return Salvage(
        ac_kind=next(iter(found["acKind"]), ""),
        ac_version=next(iter(found["acVersion"]), ""),
        names=_unique(found["apps.name"] if is_pod else found["name"]),
        image_names=_unique(found["apps.image.name"]),
        ids=_unique(m[0] for m, _ in zip(re.finditer(_ID, text), range(_KEEP), strict=False)),
        uuids=_unique(m[0] for m, _ in zip(re.finditer(_UUID, text), range(_KEEP), strict=False)),
        fault=fault,
        line=line,
        column=column,
    )


def _unique(values: Any) -> tuple[str, ...]:
    return tuple(dict.fromkeys(values))


def _fault(data: bytes) -> tuple[str, int, int]:
    if not data[:SCAN_BYTES].strip(b"\0 \t\r\n"):
        return ("it is empty" if not data else f"it starts with {min(len(data), SCAN_BYTES)} NUL or blank bytes"), 1, 1
    try:
        jsonread.loads(data, "it")
    except jsonread.SyntaxFault as e:
        return clean(e.message), e.line, e.column
    except BadInput as e:
        return clean(e.message), 0, 0
    return "", 0, 0


def _strings(text: str) -> Iterator[tuple[str, str]]:
    """Each string that is a member's value, with the keys that lead to it (`apps.image.name`), as far as it goes."""
    import re

    keys: list[str] = []  # of the objects and lists that are open; a list has the key of the member that it is
    beyond = 0  # open ones deeper than that
    key, before = "", ""
    for match in re.finditer(_TOKEN, text):
        token = match[0]
        if token in "{[":
            if len(keys) < _DEPTH:
                keys.append(key)
            else:
                beyond += 1
            key = ""
        elif token in "}]":
            if beyond:
                beyond -= 1
            elif keys:
                keys.pop()
            key = ""
        elif token == ",":
            key = ""
        elif token[0] == '"':
            if key and before == ":":
                yield ".".join(k for k in (*keys, key) if k), _unescape(token)
            elif len(token) < 64:
                key = token.strip('"')
        before = token
    return


def _unescape(token: str) -> str:
    import json

    body = token[1:].removesuffix('"')[:1024]
    if "\\" in body:
        try:
            return clean(json.loads(f'"{body}"'))
        except ValueError:
            pass  # as it stands, then
    return clean(body)


def describe(
    data: bytes, kind: str
) -> tuple[str, ImageManifest | PodManifest | LastditchImage | LastditchPod | Salvage]:
    """A manifest as well as it can be read.

    Args:
        data: any bytes.
        kind: `image` or `pod`.

    Returns:
        The level, `strict`, `lastditch` or `salvage`, and what it gave. Never raises on any bytes.
    """
    from podium.appc.image_manifest import parse_image
    from podium.appc.pod_manifest import parse_pod

    parse, lenient = (parse_pod, lastditch_pod) if kind == "pod" else (parse_image, lastditch_image)
    try:
        return "strict", parse(data, own=True)
    except BadInput as e:
        fault = clean(e.message)
    try:
        return "lastditch", lenient(data)._replace(fault=fault)
    except BadInput:
        pass
    result = salvage(data)
    return "salvage", result if result.fault else result._replace(fault=fault)
