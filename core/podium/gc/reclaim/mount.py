"""Mounts in podium's own mount namespace: `id` is the target; `attrs` may have mount_id and source.

A mount is the pod's if it is below the pod's folder or, in the boot in which it was made, by its recorded id or source.
"""

from __future__ import annotations

import errno
import os

from podium.errors import InUse
from podium.linux import mount

TYPE_CHECKING = False
if TYPE_CHECKING:
    from podium.gc.reclaim import Claim
    from podium.linux.mount import MountEntry

_ROUNDS = 64  # mounts stacked on one place


def below(folder: str) -> list[MountEntry]:
    """The mounts at and below a folder."""
    return mount.mounts_below(folder, mount.read_mountinfo())


def unmount_below(folder: str) -> list[str]:
    """Unmount everything at and below `folder`; returns the targets.

    Each is made private first: a copy of the host's /dev that shares with it would else take /dev/pts off the host.
    None is detached lazily: what is still used is still there.

    Raises:
        InUse: somebody uses one; names who.
        OSError: of mount(2) or umount2(2).
    """
    done: list[str] = []
    for _ in range(_ROUNDS):
        found = below(folder)
        if not found:
            return done
        for entry in found:
            mount.set_propagation(entry.target, mount.MS_PRIVATE)
        for entry in reversed(found):
            _unmount(entry.target)
            done.append(entry.target)
    raise InUse(f"more and more is mounted below {folder}", hint="end what mounts there", subject=folder)


def _unmount(target: str) -> None:
    try:
        mount.umount(target, mount.UMOUNT_NOFOLLOW)
    except OSError as e:
        if e.errno != errno.EBUSY:
            raise
        users = ", ".join(_users(target)[:5])
        raise InUse(
            f"{target} can't be unmounted: it is used by {users or 'the kernel, or a process that can not be seen'}",
            hint="end what uses it; the next gc tries again",
            subject=target,
        ) from None


def _users(target: str) -> list[str]:
    """Who has its working folder, root or an open file there."""
    import psutil

    found = []
    for process in psutil.process_iter(["pid", "name"]):
        pid = process.info["pid"]
        try:
            links = [f"/proc/{pid}/cwd", f"/proc/{pid}/root"]
            links += [f"/proc/{pid}/fd/{fd}" for fd in os.listdir(f"/proc/{pid}/fd")]
        except OSError:
            continue
        if any(_leads_below(link, target) for link in links):
            found.append(f"process {pid} ({process.info['name']})")
    return found


def _leads_below(link: str, target: str) -> bool:
    try:
        path = os.readlink(link)
    except OSError:
        return False
    return path == target or path.startswith(target + "/")


def _found(claim: Claim) -> list[MountEntry]:
    inside = claim.inside(claim.resource.id)
    if inside is not None:
        return below(inside)
    return [entry for entry in mount.read_mountinfo() if entry.target == claim.resource.id]


def present(claim: Claim) -> bool:
    """See the package."""
    found = _found(claim)
    if not found or claim.inside(claim.resource.id) is not None:
        return bool(found)
    top, attrs = found[-1], claim.resource.attrs
    by_id = attrs.get("mount_id") == top.id
    by_source = top.source.startswith("/") and attrs.get("source") == top.source
    if (claim.this_boot and (by_id or by_source)) or claim.uuid in f"{top.source} {top.root} {top.target}":
        return True
    raise claim.not_provable(f"what is mounted there ({top.fstype} from {top.source}) is not what was recorded")


def release(claim: Claim) -> None:
    """See the package."""
    inside = claim.inside(claim.resource.id)
    if inside is not None:
        unmount_below(inside)
    else:
        mount.set_propagation(claim.resource.id, mount.MS_PRIVATE)
        _unmount(claim.resource.id)
