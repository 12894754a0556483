"""Addresses: given out by a network plugin, which alone can take them back; that comes with podium's networks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from podium.gc.reclaim import NoReclaimer

if TYPE_CHECKING:
    from podium.gc.reclaim import Claim


def present(claim: Claim) -> bool:
    """See the package. Nobody else knows whether it is still taken, so the pod is kept."""
    raise NoReclaimer(
        f"pod {claim.uuid} holds {claim.what}, which only the stage1 plugin that took it can release",
        hint="make its plugin available again ('podium inspect' names it), then gc once more",
        subject=claim.resource.id,
    )


release = present
