"""A cgroup: the pod's if its path ends in the pod's uuid. What is in it is killed first."""

from __future__ import annotations

from podium.errors import Failed
from podium.gc.reclaim import refuse
from podium.linux import cgroup
from podium.pods.lifecycle import PodRef
from podium.types import Resource


def release(pod: PodRef, resource: Resource) -> None:
    """See `podium.gc.reclaim.reclaim`."""
    if pod.uuid not in resource.id.split("/"):
        raise refuse(pod, resource, "its path does not name the pod")
    if not cgroup.kill(resource.id):
        raise Failed(f"processes in cgroup {resource.id} survive SIGKILL", subject=pod.uuid)
    cgroup.remove(resource.id)
