"""A mount in the host's table: the pod's if it is below the pod's folder, or the very mount that the ledger has."""

from __future__ import annotations

from podium.errors import Failed
from podium.gc.reclaim import refuse
from podium.linux import mount
from podium.pods.lifecycle import PodRef
from podium.types import Resource

MNT_DETACH = 2


def release(pod: PodRef, resource: Resource) -> None:
    """See `podium.gc.reclaim.reclaim`. The id is the mount point; attribute `mount_id` is mountinfo's."""
    entries = [e for e in mount.read_mountinfo() if e.target == resource.id]
    if not entries:
        return
    known = resource.attrs.get("mount_id")
    if f"/{pod.uuid}/" not in f"{resource.id}/" and not all(e.id == known for e in entries):
        raise refuse(pod, resource, "what is mounted there now is another mount")
    for _ in entries:
        mount.umount(resource.id, MNT_DETACH)
    if any(e.target == resource.id for e in mount.read_mountinfo()):
        raise Failed(f"{resource.id} is still mounted", subject=pod.uuid)
