"""A network link: the pod's if its alias has the pod's uuid."""

from __future__ import annotations

from podium.gc.reclaim import refuse
from podium.linux import netlink
from podium.pods.lifecycle import PodRef
from podium.types import Resource


def release(pod: PodRef, resource: Resource) -> None:
    """See `podium.gc.reclaim.reclaim`. The id is the link's name."""
    for link in netlink.links():
        if link.name == resource.id:
            if pod.uuid not in (link.alias or ""):
                raise refuse(pod, resource, f"its alias is {link.alias!r}")
            netlink.delete_link(link.index, link.alias)
