"""A pinned network namespace: the pod's if its name has the pod's uuid, or it is the inode that the ledger has."""

from __future__ import annotations

import os

from podium.gc.reclaim import refuse
from podium.linux import namespaces
from podium.pods.lifecycle import PodRef
from podium.types import Resource


def release(pod: PodRef, resource: Resource) -> None:
    """See `podium.gc.reclaim.reclaim`. The id is the path of the pin; attribute `inode` is the namespace's."""
    if not os.path.lexists(resource.id):
        return
    inode = resource.attrs.get("inode")
    if pod.uuid not in resource.id and inode is None:
        raise refuse(pod, resource, "neither its name nor an inode shows that it is the pod's")
    namespaces.unpin_netns(resource.id, inode)
