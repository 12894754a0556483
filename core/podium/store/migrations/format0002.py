"""Format 2: the time when an image was last used moves from cache/used/ to a file beside the image's record."""

from __future__ import annotations

import os

from podium.linux.files import fsync_dir
from podium.paths import DataDir
from podium.store import usage


def apply(data: DataDir) -> None:
    """Carry the times over; the later counts where an image has two. Doing it again changes nothing."""
    old = os.path.dirname(usage.old_path(data, ""))
    try:
        names = os.listdir(old)
    except FileNotFoundError:
        return
    for digits in names:
        used = usage.last(data, digits)
        if used is not None and os.path.exists(data.image(digits)):
            path = data.used(digits)
            os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600))
            os.utime(path, (used, used))
    fsync_dir(data.images)
    for digits in names:
        os.unlink(usage.old_path(data, digits))
    os.rmdir(old)
