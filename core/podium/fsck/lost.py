"""lost+found/<time>/…: what a repair took from its place, under the path that it had."""

from __future__ import annotations

import fcntl
import os
import shutil

from podium.clock import rfc3339
from podium.linux.files import exchange, fsync_dir
from podium.paths import DataDir
from podium.trace import trace


class Lost:
    """The folder of one repair, made when it is first needed."""

    def __init__(self, data: DataDir) -> None:
        self._data = data
        self._folder = os.path.join(data.lost, rfc3339().replace(":", "").replace(".", "-"))

    def move(self, path: str) -> str:
        """Move a file or folder of the data directory there; returns what was done, for people."""
        target = self._target(path)
        trace("fsck:move")
        os.rename(path, target)
        return self._moved(path, target)

    def replace(self, path: str, new: str) -> str:
        """Put `new` in the place of what is at `path`, and that there, at once; returns what was done, for people."""
        target = self._target(path)
        os.rename(new, target)  # what fails from here on leaves one too many there, and nothing is gone
        trace("fsck:move")
        exchange(target, path)
        return self._moved(path, target)

    def _moved(self, path: str, target: str) -> str:
        trace("fsck:moved")
        fsync_dir(os.path.dirname(target))
        fsync_dir(os.path.dirname(path))
        return f"moved to {os.path.relpath(target, self._data.root)}"

    def copy(self, path: str) -> None:
        """Keep a copy of a file that is about to be replaced."""
        if os.path.lexists(path):
            target = self._target(path)
            shutil.copy2(path, target, follow_symlinks=False)
            trace("fsck:copied")
            fsync_dir(os.path.dirname(target))

    def _target(self, path: str) -> str:
        target = os.path.join(self._folder, os.path.relpath(path, self._data.root))
        os.makedirs(os.path.dirname(target), mode=0o700, exist_ok=True)
        number, free = 1, target
        while os.path.lexists(free):
            number += 1
            free = f"{target}.{number}"
        return free


def is_temporary(name: str) -> bool:
    """Whether a file of this name is half written, and by nobody who lives (see podium.linux.files.write_atomic)."""
    if not name.startswith(".tmp-"):
        return False
    pid = name[5:].partition("-")[0]
    return not pid.isdigit() or not os.path.exists(f"/proc/{pid}")


def is_free(path: str) -> bool:
    """Whether nobody holds the lock of a file or folder; one that is gone is nobody's business any more."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(fd)
    return True


def names(folder: str) -> list[str]:
    """What is in a folder, sorted; nothing where there is none."""
    try:
        return sorted(os.listdir(folder))
    except (FileNotFoundError, NotADirectoryError):
        return []
