"""Releasing resources by what the ledger says of them: one file a kind.

A reclaimer releases a resource only if it can prove that it is the pod's, and raises otherwise. What is gone already is no
error. Kinds that no file is here for can't be released by core: their pod stays, with that reason.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from podium.errors import Failed

if TYPE_CHECKING:
    from podium.pods.lifecycle import PodRef
    from podium.types import Resource

KINDS = ("mount", "netns", "link", "cgroup", "process", "loop", "socket", "path")


def reclaim(pod: PodRef, resource: Resource) -> None:
    """Release a resource of a pod whose lock the caller holds.

    Raises:
        Failed: it is not provably the pod's, or could not be released, or core does not know its kind.
    """
    if resource.kind not in KINDS:
        raise Failed(
            f"{resource.kind} {resource.id} is still held, and only the pod's own plugin can release it",
            hint="install the plugin that prepared the pod",
            subject=pod.uuid,
        )
    import_module(f"podium.gc.reclaim.{resource.kind}").release(pod, resource)


def refuse(pod: PodRef, resource: Resource, why: str) -> Failed:
    """The error for a resource that is not provably the pod's."""
    return Failed(
        f"{resource.kind} {resource.id} is in the pod's ledger, but {why}; it is left alone",
        hint="release it by hand if it is the pod's, then gc again",
        subject=pod.uuid,
    )
