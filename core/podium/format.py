"""format.json: what a data directory is, and whether this podium may touch it."""

from __future__ import annotations

import os

from podium import __version__
from podium.errors import Corrupt, NewerFormat
from podium.features import Features
from podium.paths import PHASES, DataDir
from podium.quickjson import loads

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

MAGIC = "podium-data"
LAYOUT = 1  # the member `version`: an older podium that does not know it keeps its hands off altogether
VERSION = 2  # the member `format`: how many migrations the data has behind it; flags say what an older podium may do
IMAGE_USED = "image-used"  # since format 2: images/<hex>.used
FLAGS = Features(ro_compat=(IMAGE_USED,))  # what data of format VERSION uses


def initial() -> dict[str, Any]:
    """A new data directory's format.json."""
    return {
        "magic": MAGIC,
        "version": LAYOUT,
        "format": VERSION,
        **FLAGS.to_json(),
        "written_by": f"podium {__version__}",
    }


def check(data: DataDir, *, full: bool = True) -> int:
    """Refuse a data directory that this podium must not touch.

    Args:
        data: the data directory.
        full: False for list, status, stop, gc and rm, which need the frozen parts only.

    Returns:
        The format of the data; 0 when there is no data directory yet.

    Raises:
        NewerFormat: it uses a feature or version that this podium does not know.
        Corrupt: format.json is damaged, or this is no data directory of podium's.
    """
    try:
        with open(data.format, "rb") as f:
            raw = f.read(1 << 16)
    except FileNotFoundError:
        if os.path.isdir(data.pods):
            raise Corrupt(f"{data.format} is missing", hint="run 'podium fsck --repair'", subject=data.format) from None
        return 0
    try:
        content = loads(raw)
        number = content.get("format", content["version"])
        if content["magic"] != MAGIC or type(content["version"]) is not int or type(number) is not int or number < 1:
            raise ValueError("its magic or version is wrong")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as e:
        raise Corrupt(
            f"{data.format} is damaged or not podium's: {e}", hint="run 'podium fsck --repair'", subject=data.format
        ) from None
    written_by = str(content.get("written_by", "a newer podium"))
    if content["version"] > LAYOUT:
        raise NewerFormat(
            f"{data.root} has layout {content['version']}, this podium knows {LAYOUT} (written by {written_by})",
            hint=f"use {written_by} or newer",
            subject=data.root,
        )
    Features.from_json(content).require(f"the data directory {data.root}", written_by, full=full)
    return number


def ensure(data: DataDir) -> int:
    """Make the data directory if it is not there; refuse it if it is not ours to write. Returns the format of the data.

    Raises:
        NewerFormat, Corrupt: as `check`.
    """
    number = check(data)
    if not number:
        number = VERSION
        import json

        from podium.linux.files import write_atomic

        os.makedirs(data.root, mode=0o755, exist_ok=True)
        # First: folders without a format.json are not a data directory. Two that make it at once write the same.
        write_atomic(data.format, (json.dumps(initial(), indent=1) + "\n").encode())
    for folder in (
        data.blobs,
        data.images,
        data.trees,
        data.pins,
        data.tmp,
        data.locks,
        data.cache,
        *map(data.phase, PHASES),
    ):
        if not os.path.isdir(folder):
            os.makedirs(folder, mode=0o700, exist_ok=True)
    return number
