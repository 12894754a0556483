"""Network links in podium's own network namespace: `id` is the name; the alias carries the pod's uuid."""

from __future__ import annotations

import os

from podium.linux import netlink

TYPE_CHECKING = False
if TYPE_CHECKING:
    from podium.gc.reclaim import Claim

_NET = "/sys/class/net"


def aliases() -> dict[str, str]:
    """Name → alias of every link that has one. From sysfs: most hosts need no netlink library for that."""
    found = {}
    try:
        names = os.listdir(_NET)
    except FileNotFoundError:
        return {}
    for name in names:
        try:
            with open(f"{_NET}/{name}/ifalias", encoding="utf-8", errors="surrogateescape") as f:
                alias = f.read().rstrip("\n")
        except OSError:
            continue
        if alias:
            found[name] = alias
    return found


def delete(name: str, alias: str) -> None:
    """Delete the link of that name, if it still carries that alias."""
    try:
        with open(f"{_NET}/{name}/ifindex", encoding="ascii") as f:
            index = int(f.read())
    except FileNotFoundError:
        return
    netlink.delete_link(index, alias)


def present(claim: Claim) -> bool:
    """See the package. A link in a namespace of the pod's own goes with that."""
    name = claim.resource.id
    if not name or "/" in name or not os.path.lexists(f"{_NET}/{name}"):
        return False
    if claim.uuid not in aliases().get(name, ""):
        raise claim.not_provable("the link of that name does not carry the pod's uuid as its alias")
    return True


def release(claim: Claim) -> None:
    """See the package."""
    delete(claim.resource.id, aliases()[claim.resource.id])
