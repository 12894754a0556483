"""Ranges of user ids: nothing is kept for one but the record, and its processes end with the pod's cgroup."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from podium.gc.reclaim import Claim


def present(claim: Claim) -> bool:
    """See the package."""
    return False


def release(claim: Claim) -> None:
    """See the package."""
