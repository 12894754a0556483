"""Cgroups: `id` is the path below every hierarchy, one component of which is the pod's uuid."""

from __future__ import annotations

import os

from podium.errors import HostLacks
from podium.gc.reclaim import Leftover
from podium.linux import cgroup, hierarchies

TYPE_CHECKING = False
if TYPE_CHECKING:
    from podium.gc.reclaim import Claim


def exists(path: str) -> bool:
    """Whether any hierarchy has the cgroup."""
    try:
        return any(os.path.isdir(folder) for folder in hierarchies.current().folders(path))
    except HostLacks:
        return False


def end(path: str, uuid: str) -> None:
    """Kill what is in a cgroup, and remove it.

    Raises:
        Leftover: processes survive SIGKILL; names them.
    """
    if not cgroup.kill(path):
        pids = ", ".join(map(str, cgroup.procs(path)[:5]))
        raise Leftover(f"processes of pod {uuid} survive SIGKILL in cgroup {path}: pid {pids}", subject=path)
    cgroup.remove(path)


def present(claim: Claim) -> bool:
    """See the package."""
    parts = claim.resource.id.split("/")
    if any(part in ("", ".", "..") for part in parts):
        raise claim.not_provable("that is no path of a cgroup")
    if not exists(claim.resource.id):
        return False
    if claim.uuid not in parts:
        raise claim.not_provable("its path does not carry the pod's uuid")
    return True


def release(claim: Claim) -> None:
    """See the package."""
    end(claim.resource.id, claim.uuid)
