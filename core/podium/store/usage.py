"""When an image was last used: the time of the empty file images/<hex>.used, so that noting it is one system call.

Data of format 1 had it in cache/used/, where an older podium that is still at work may write it.
"""

from __future__ import annotations

import os

from podium.paths import DataDir


def note(data: DataDir, digits: str) -> None:
    """Note that an image is used now."""
    path = data.used(digits)
    try:
        os.utime(path)
    except FileNotFoundError:
        if not os.path.exists(data.image(digits)):
            return  # removed by force; its pods have their trees
        try:
            os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600))
        except OSError:
            pass
    except OSError:
        pass  # a full or read-only file system is no reason not to use the image


def last(data: DataDir, digits: str) -> float | None:
    """When a pod was last prepared from the image or run, in seconds since the epoch; None if that is not known."""
    times = []
    for path in (data.used(digits), old_path(data, digits)):
        try:
            times.append(os.stat(path).st_mtime)
        except OSError:
            continue
    return max(times, default=None)


def forget(data: DataDir, digits: str) -> None:
    """Remove what is known of an image that is gone."""
    for path in (data.used(digits), old_path(data, digits)):
        try:
            os.unlink(path)
        except FileNotFoundError:
            pass


def strays(data: DataDir) -> list[str]:
    """The digits of images that are gone and whose time is there still: an older podium removed them."""
    try:
        names = set(os.listdir(data.images))
    except FileNotFoundError:
        return []
    digits = (name.removesuffix(".used") for name in names if name.endswith(".used"))
    return sorted(d for d in digits if f"{d}.json" not in names)


def old_path(data: DataDir, digits: str) -> str:
    """Where format 1 had the time."""
    return os.path.join(data.cache, "used", digits)
