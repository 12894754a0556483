"""A loop device: the pod's if its backing file is the one that the ledger has."""

from __future__ import annotations

from podium.gc.reclaim import refuse
from podium.linux import loop
from podium.pods.lifecycle import PodRef
from podium.types import Resource


def release(pod: PodRef, resource: Resource) -> None:
    """See `podium.gc.reclaim.reclaim`. The id is the backing file; attributes `device`, `st_dev`, `st_ino`."""
    try:
        device = str(resource.attrs["device"])
        backing = (int(resource.attrs["st_dev"]), int(resource.attrs["st_ino"]))
    except (KeyError, TypeError, ValueError):
        if not resource.held:
            return
        raise refuse(pod, resource, "the ledger does not say which device and backing file") from None
    loop.detach(device, backing)
