"""Network namespaces: `id` is the path of the file that keeps one, whose name carries the pod's uuid."""

from __future__ import annotations

import os

from podium.linux import namespaces

TYPE_CHECKING = False
if TYPE_CHECKING:
    from podium.gc.reclaim import Claim


def present(claim: Claim) -> bool:
    """See the package."""
    path = claim.resource.id
    if not os.path.lexists(path):
        return False
    if claim.uuid not in os.path.basename(path):
        raise claim.not_provable("its name does not carry the pod's uuid")
    return True


def release(claim: Claim) -> None:
    """See the package. The inode of a namespace means nothing after a reboot; the name does."""
    inode = claim.resource.attrs.get("inode") if claim.this_boot else None
    namespaces.unpin_netns(claim.resource.id, None if inode is None else int(inode))
