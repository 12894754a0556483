"""Addresses, and all that network plugins made with them: given back by DEL, with what the ledger has of the ADD."""

from __future__ import annotations

from podium.gc.reclaim import NoReclaimer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from podium.gc.reclaim import Claim

_deleted: set[tuple[str, int]] = set()  # by this process: pod and entry


def present(claim: Claim) -> bool:
    """See the package. Only a DEL that succeeded says that nothing is taken any more."""
    env = claim.resource.attrs.get("env")
    if not isinstance(env, dict) or not claim.resource.attrs.get("plugins"):
        raise NoReclaimer(
            f"pod {claim.uuid} holds {claim.what}, which only the stage1 plugin that took it can release",
            hint="make its plugin available again ('podium inspect' names it), then gc once more",
            subject=claim.resource.id,
        )
    if not str(env.get("CNI_CONTAINERID", "")).startswith(claim.uuid):
        raise claim.not_provable("the container id of its attachment does not carry the pod's uuid")
    return (claim.uuid, claim.resource.number) not in _deleted


def release(claim: Claim) -> None:
    """See the package."""
    from podium.net.attachment import delete

    delete(claim.resource.attrs, sweep=True)
    _deleted.add((claim.uuid, claim.resource.number))
