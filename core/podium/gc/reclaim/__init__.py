"""Core's own way to let go of what a ledger lists: one module a kind of resource.

Each has `present(claim)`: whether the thing is there *and* provably the pod's, and `release(claim)`, which is called
only then. What is there but can't be proved to be the pod's raises `NotProvable`, and is left alone.

A pod's uuid is random, so a name that carries it is a proof; so are device and inode, or pid, start time and boot.
"""

from __future__ import annotations

import os
from importlib import import_module

from podium.errors import PodiumError
from podium.named import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import ModuleType

    from podium.types import Resource

KINDS = frozenset({"mount", "netns", "link", "address", "cgroup", "process", "loop", "socket", "path", "ids"})


class NotProvable(PodiumError):
    """Something is where a pod's resource was, and nothing proves that it is the pod's."""

    reason = "not-provable"


class NoReclaimer(PodiumError):
    """Core can't release this kind of resource by itself; the pod's plugin has to."""

    reason = "no-reclaimer"


class Leftover(PodiumError):
    """Something of the pod is there still, after it was released."""

    reason = "leftover"


class Claim(NamedTuple):
    """A ledger entry, and whose it is.

    Attributes:
        resource: the entry.
        uuid: the pod's.
        folder: where the pod's folder is now, without symbolic links in its path.
        this_boot: it was taken since the machine was started.
    """

    resource: Resource
    uuid: str
    folder: str
    this_boot: bool

    @property
    def what(self) -> str:
        """Names the resource in messages."""
        return f"{self.resource.kind} {self.resource.id}"

    def inside(self, path: str) -> str | None:
        """`path` as it is now, if it is at or below the pod's folder; it may name the folder of an earlier phase."""
        parts = path.split("/")
        if ".." in parts:
            return None
        if not os.path.isabs(path):
            return os.path.join(self.folder, path)
        at = parts.index(self.uuid) if self.uuid in parts else 0
        return os.path.join(self.folder, *parts[at + 1 :]) if at >= 2 and parts[at - 2] == "pods" else None

    def recorded_file(self) -> tuple[int, int] | None:
        """st_dev and st_ino that the ledger has of it."""
        attrs = self.resource.attrs
        try:
            return int(attrs["st_dev"]), int(attrs["st_ino"])
        except (KeyError, TypeError, ValueError):
            return None

    def not_provable(self, why: str) -> NotProvable:
        """The refusal to touch it."""
        return NotProvable(
            f"{self.what} is listed by pod {self.uuid}, but {why}: it was left alone",
            hint="if it is the pod's, remove it by hand; once it is gone, gc collects the pod",
            subject=self.resource.id,
        )


def _module(claim: Claim) -> ModuleType:
    kind = claim.resource.kind
    if kind not in KINDS:
        raise NoReclaimer(
            f"pod {claim.uuid} holds {claim.what}, a kind that this podium does not know",
            hint="collect it with the podium that prepared it, or a newer one",
            subject=claim.resource.id,
        )
    return import_module(f"{__name__}.{kind}")


def present(claim: Claim) -> bool:
    """Whether the resource is there and provably the pod's.

    Raises:
        NotProvable: it is there, but whose it is can't be proved.
        NoReclaimer: core can't tell for this kind.
    """
    return bool(_module(claim).present(claim))


def release(claim: Claim) -> bool:
    """Release the resource if it is there; returns whether it was.

    Raises:
        NotProvable, NoReclaimer: as `present`.
        Leftover, InUse: it could not be released.
        OSError: of the call that failed.
    """
    if not present(claim):
        return False
    _module(claim).release(claim)
    if present(claim):
        raise Leftover(f"{claim.what} of pod {claim.uuid} is still there after its release", subject=claim.resource.id)
    return True
