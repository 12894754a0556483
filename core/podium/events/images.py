"""Events of images: an intent before the transition, since an image that is gone leaves nothing to read it off."""

from __future__ import annotations

import fcntl
import os

from podium import records
from podium.contexts import contextmanager
from podium.errors import Corrupt
from podium.events import log
from podium.events.record import Event
from podium.paths import DataDir
from podium.trace import trace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

IMPORTED, REMOVED = "image-imported", "image-removed"
_HEX = frozenset("0123456789abcdef")


@contextmanager
def transition(data: DataDir, kind: str, hex_digest: str, name: str, stamp: str) -> Iterator[None]:
    """Around the one step that brings an image into the store or takes it out.

    Args:
        data: where.
        kind: IMPORTED or REMOVED.
        hex_digest: of the image's id.
        name: of the image.
        stamp: when it was imported; tells this import of the image from another.
    """
    event = Event(f"sha256:{hex_digest}:{kind}:{stamp}", kind, f"sha256:{hex_digest}", {"name": name, "images": [name]})
    make_good(data)  # the intent of somebody who was killed over the same image must not be lost
    folder = os.path.join(data.events, "pending")
    os.makedirs(folder, mode=0o700, exist_ok=True)
    path = os.path.join(folder, f"{kind}-{hex_digest}")
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        os.write(fd, records.seal(event.to_json()) + b"\n")
        trace("event:intended")
        yield
        trace("event:image-due")
        log.append(data, [event], durable=True)
        trace("event:image-logged")
        _forget(path)
    finally:
        os.close(fd)  # after a failure the intent stays, and `make_good` looks at what has become of the image


def make_good(data: DataDir) -> bool:
    """Log what somebody who was killed has missed; returns whether there was anything."""
    folder, found = os.path.join(data.events, "pending"), False
    try:
        names = sorted(os.listdir(folder))
    except FileNotFoundError:
        return False
    for name in names:
        kind, _, hex_digest = name.rpartition("-")
        if kind in (IMPORTED, REMOVED) and len(hex_digest) == 64 and _HEX.issuperset(hex_digest):
            found = _settle(data, os.path.join(folder, name), kind, hex_digest) or found
    return found


def _settle(data: DataDir, path: str, kind: str, hex_digest: str) -> bool:
    try:
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        event = Event.from_json(records.unseal(os.pread(fd, 1 << 16, 0), "an event"))
        happened = os.path.lexists(data.image(hex_digest)) == (kind == IMPORTED)
        if happened:
            log.append(data, [event], durable=True)
        _forget(path)
        return happened
    except BlockingIOError:
        return False  # its maker is at it
    except (Corrupt, KeyError, TypeError, ValueError):
        _forget(path)  # killed before the intent was written, so before the transition
        return False
    finally:
        os.close(fd)


def _forget(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass
