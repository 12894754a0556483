"""Locks of the store: files below locks/ that are only ever locked (flock(2)).

`store` is held shared by who is about to refer to an image or tree, and alone by who removes some. `records` is held
alone while records are changed. `import-XX` and `tree-XX` let one process do a piece of work that others then find
done; there is one for each first byte of a digest, so that no lock file has to be removed, ever.

Order, where several are held: import, tree, store, records.
"""

from __future__ import annotations

import os

from podium.linux import lockfile
from podium.paths import DataDir

TYPE_CHECKING = False
if TYPE_CHECKING:
    from contextlib import AbstractContextManager

STORE, RECORDS = "store", "records"


def locked(data: DataDir, name: str, *, shared: bool = False) -> AbstractContextManager[None]:
    """Hold a lock, waiting for it."""
    return lockfile.locked(os.path.join(data.locks, name), shared=shared)


def holders(path: str) -> str:
    """The processes that hold a lock of a file, for a message: `process 12 (podium), …`; empty if none is known."""
    try:
        at = os.stat(path)
        with open("/proc/locks", encoding="ascii") as f:
            lines = f.read().splitlines()
    except OSError:
        return ""
    inode = f"{os.major(at.st_dev):02x}:{os.minor(at.st_dev):02x}:{at.st_ino}"
    found: dict[str, None] = {}
    for line in lines:
        words = line.split()
        if "->" not in words and inode in words:
            found[words[4]] = None
    return ", ".join(f"process {pid}{_command(pid)}" for pid in found if pid != str(os.getpid()))


def _command(pid: str) -> str:
    try:
        with open(f"/proc/{pid}/comm", encoding="utf-8", errors="replace") as f:
            return f" ({f.read().strip()})"
    except OSError:
        return ""


def work(kind: str, digits: str) -> str:
    """The name of the lock of a piece of work: `kind` is import or tree, `digits` a digest's."""
    return f"{kind}-{digits[:2]}"
