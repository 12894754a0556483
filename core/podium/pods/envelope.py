"""envelope.json: the record, frozen for ever, by which any podium can list, stop, gc and rm a pod.

Whatever else of a pod can't be read, this says who made it, which code is answerable for it, and what it refers to.
"""

from __future__ import annotations

import os

from podium import records
from podium.errors import Corrupt
from podium.features import Features
from podium.named import NamedTuple
from podium.paths import PHASES, DataDir

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from podium.linux.files import Writing

FILE = "envelope.json"
VERSION = 1


class Stage1(NamedTuple):
    """The code that prepared a pod.

    Attributes:
        name: of the plugin.
        version: of the plugin.
        interface: version of the stage1 interface it spoke.
        state: version of what it keeps under the pod's stage1/ folder.
        digest: `sha256:<hex>` of the plugin's own code.
        pin: `sha256-<hex>`, the folder of the plugin, core and libraries below stage1/.
        entry: module (or module:object) that is the plugin.
        distribution: the distribution that brought it.
    """

    name: str
    version: str
    interface: int
    state: int
    digest: str
    pin: str
    entry: str
    distribution: str


class AppRef(NamedTuple):
    """What a listing says of an app without reading the pod's manifest; `tree` is its image's rendered tree."""

    name: str
    image: str
    image_id: str
    tree: str


class Envelope(NamedTuple):
    """See docs/on-disk-format.md for each field."""

    uuid: str
    name: str | None
    created: str
    stage1: Stage1
    apps: tuple[AppRef, ...]
    trees: tuple[str, ...]
    images: tuple[str, ...]
    labels: dict[str, str]
    features: Features
    prepared_by: str
    created_boottime: float | None = None
    created_boot: str | None = None

    def to_json(self) -> dict[str, Any]:
        """As it is stored (without the checksum)."""
        return {
            "envelope": VERSION,
            "uuid": self.uuid,
            "name": self.name,
            "created": self.created,
            "stage1": self.stage1._asdict(),
            "apps": [app._asdict() for app in self.apps],
            "refs": {"trees": list(self.trees), "images": list(self.images)},
            "labels": self.labels,
            "features": self.features.to_json(),
            "prepared_by": self.prepared_by,
            "created_boottime": self.created_boottime,
            "created_boot": self.created_boot,
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Envelope:
        """Fields that this version does not know are ignored.

        Raises:
            KeyError, TypeError, ValueError: a field is missing or of the wrong type.
        """
        stage1, refs = data["stage1"], data["refs"]
        return cls(
            uuid=_str(data["uuid"]),
            name=None if data["name"] is None else _str(data["name"]),
            created=_str(data["created"]),
            stage1=Stage1(
                _str(stage1["name"]),
                _str(stage1["version"]),
                _int(stage1["interface"]),
                _int(stage1["state"]),
                _str(stage1["digest"]),
                _file_name(stage1["pin"]),
                _str(stage1["entry"]),
                _str(stage1["distribution"]),
            ),
            apps=tuple(
                AppRef(_file_name(a["name"]), _str(a["image"]), _str(a["image_id"]), _file_name(a["tree"]))
                for a in data["apps"]
            ),
            trees=tuple(map(_file_name, _list(refs["trees"]))),
            images=tuple(map(_str, _list(refs["images"]))),
            labels={_str(k): _str(v) for k, v in data["labels"].items()},
            features=_features(data["features"]),
            prepared_by=_str(data["prepared_by"]),
            created_boottime=_seconds(data.get("created_boottime")),
            created_boot=None if data.get("created_boot") is None else _str(data["created_boot"]),
        )


def _str(value: Any) -> str:
    if type(value) is not str:
        raise TypeError(f"{value!r} is not a string")
    if not value.isascii():
        value.encode()  # JSON can spell half a character, which no path can
    return value


def _seconds(value: Any) -> float | None:
    if value is not None and type(value) not in (int, float):
        raise TypeError(f"{value!r} is no number")
    try:
        return None if value is None else float(value)
    except OverflowError as e:
        raise ValueError(str(e)) from None


def _int(value: Any) -> int:
    if type(value) is not int:
        raise TypeError(f"{value!r} is not an integer")
    return value


def _list(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise TypeError(f"{value!r} is not a list")
    return value


def _features(value: Any) -> Features:
    for flags in value.values():  # kinds of flags that this version does not know are lists of strings too
        for flag in _list(flags):
            _str(flag)
    return Features.from_json(value)


def _file_name(value: Any) -> str:
    """A string that paths are made of: it must not lead anywhere else."""
    if not (text := _str(value)) or text in (".", "..") or "/" in text or "\0" in text:
        raise ValueError(f"{text!r} is no file name")
    return text


def begin(folder: str, envelope: Envelope) -> Writing:
    """A pod's envelope, durable once it is finished; the folder is the caller's to sync."""
    from podium.linux.files import Writing

    return Writing(os.path.join(folder, FILE), records.seal(envelope.to_json()) + b"\n")


def write(folder: str, envelope: Envelope) -> None:
    """Write a pod's envelope, durably."""
    from podium.linux.files import fsync_dir

    with begin(folder, envelope) as file:
        file.finish()
    fsync_dir(folder)


def read(folder: str) -> Envelope:
    """A pod's envelope.

    Args:
        folder: the pod's folder.

    Raises:
        FileNotFoundError: the pod is gone, or has no envelope yet.
        Corrupt: the envelope is damaged.
    """
    what = _what(folder)
    return _checked(folder, records.read(f"{folder}/{FILE}", what), what)


def parse(folder: str, data: bytes) -> Envelope:
    """The envelope of the pod in `folder` from the file's bytes. Raises Corrupt."""
    what = _what(folder)
    return _checked(folder, records.unseal(data, what), what)


def _what(folder: str) -> str:
    return f"the envelope of pod {folder.rpartition('/')[2]}"


def _checked(folder: str, data: dict[str, Any], what: str) -> Envelope:
    try:
        envelope = Envelope.from_json(data)
    except (KeyError, TypeError, ValueError, AttributeError) as e:
        raise Corrupt(f"{what} is damaged: {type(e).__name__} {e}"[:300], subject=what) from None
    if envelope.uuid != folder.rpartition("/")[2]:
        raise Corrupt(f"{what} is that of pod {envelope.uuid!r}"[:300], subject=what)
    return envelope


class References(NamedTuple):
    """What pods refer to; `unreadable` are pods whose envelope can't be read, which may refer to anything."""

    images: set[str]
    trees: set[str]
    pins: set[str]
    unreadable: list[str]


def survey(data: DataDir) -> Iterator[tuple[str, Envelope | None]]:
    """Uuid and envelope of every pod, in every phase; None where the envelope can't be read.

    Phases are read in the order in which pods move through them, so that one that moves meanwhile is not missed (but
    perhaps seen twice).
    """
    for phase in PHASES:
        try:
            uuids = os.listdir(data.phase(phase))
        except FileNotFoundError:
            continue
        for uuid in uuids:
            try:
                yield uuid, read(data.pod(phase, uuid))
            except FileNotFoundError:
                continue  # an embryo; who makes it holds the store's lock until it has an envelope
            except Corrupt:
                folder = data.pod(phase, uuid)
                if os.path.isdir(folder) or not os.path.lexists(folder):  # else it is no pod, and refers to nothing
                    yield uuid, None


def referenced(data: DataDir) -> References:
    """What all pods, in every phase, refer to."""
    refs = References(set(), set(), set(), [])
    for uuid, envelope in survey(data):
        if envelope is None:
            refs.unreadable.append(uuid)
            continue
        refs.images.update(envelope.images)
        refs.trees.update(envelope.trees)
        refs.pins.add(envelope.stage1.pin)
    return refs
