"""Packet filter rules: a reboot clears them; else, for now, only the plugin that made them can remove them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from podium.gc.reclaim import address

if TYPE_CHECKING:
    from podium.gc.reclaim import Claim


def present(claim: Claim) -> bool:
    """See the package."""
    return claim.this_boot and address.present(claim)


release = present
