"""Loop devices: `id` is the backing file's path; `attrs` may have `device` (/dev/loop3), `st_dev` and `st_ino`.

A device is the pod's if it is attached to exactly the recorded file, or to one below the pod's folder.
"""

from __future__ import annotations

import os

from podium.gc.reclaim import Leftover
from podium.linux import loop

TYPE_CHECKING = False
if TYPE_CHECKING:
    from podium.gc.reclaim import Claim
    from podium.linux.loop import LoopDevice


def let_go(found: LoopDevice, backing: tuple[int, int]) -> None:
    """Detach a device from exactly this backing file.

    Raises:
        InUse: it is attached to another file by now.
        Leftover: it is still attached, since something has it mounted or open.
    """
    loop.detach(found.device, backing)
    if found in loop.attached():
        raise Leftover(f"{found.device} is still in use after it was detached", subject=found.device)


def identity(path: str) -> tuple[int, int] | None:
    """st_dev and st_ino of a file; None if it is gone."""
    try:
        status = os.stat(path, follow_symlinks=False)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _found(claim: Claim) -> list[LoopDevice]:
    path = claim.inside(claim.resource.id) or claim.resource.id
    device = claim.resource.attrs.get("device")
    return [f for f in loop.attached() if f.backing == path or (claim.this_boot and f.device == device)]


def _expected(claim: Claim, found: LoopDevice) -> tuple[int, int] | None:
    """What the device must be attached to in order to be the pod's."""
    if found.backing.startswith(claim.folder + "/"):
        return identity(found.backing)
    return claim.recorded_file()


def present(claim: Claim) -> bool:
    """See the package."""
    found = _found(claim)
    for device in found:
        expected = _expected(claim, device)
        if expected is None or identity(device.backing) not in (None, expected):
            raise claim.not_provable(f"{device.device} is attached to {device.backing}")
    return bool(found)


def release(claim: Claim) -> None:
    """See the package. The device itself is asked once more which file it is attached to."""
    for device in _found(claim):
        expected = _expected(claim, device)
        if expected is not None:
            let_go(device, expected)
