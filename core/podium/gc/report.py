"""What a collection did, as it is told to people and to scripts."""

from __future__ import annotations

from podium.named import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

SCHEMA = "podium.gc/1"
NO_FOLDER = "it is no folder, so no pod of podium's: 'podium rm' removes it, 'podium fsck --repair' puts it aside"


class Kept(NamedTuple):
    """A pod that has ended and was not collected, and why."""

    uuid: str
    reason: str


class Failure(NamedTuple):
    """A pod that could not be collected; `reason` is the error's machine word, `attempts` counts this one."""

    uuid: str
    reason: str
    message: str
    attempts: int


class Released(NamedTuple):
    """A host resource that was let go, by `plugin`, `ledger` or `audit`."""

    uuid: str
    kind: str
    id: str
    by: str


class Dispatched(NamedTuple):
    """Which code served a pod: `via` is installed, pin, compatible or ledger; `why` what kept better ones from it."""

    uuid: str
    stage1: str
    version: str
    digest: str
    via: str
    why: str = ""


class GcReport(NamedTuple):
    """A whole pass; the lists are filled as it goes."""

    marked: list[str]
    collected: list[str]
    kept: list[Kept]
    failed: list[Failure]
    released: list[Released]
    dispatch: list[Dispatched]

    def to_json(self) -> dict[str, Any]:
        """The report as `podium.gc/1`."""
        return {
            "schema": SCHEMA,
            "marked": self.marked,
            "collected": self.collected,
            "kept": [k._asdict() for k in self.kept],
            "failed": [f._asdict() for f in self.failed],
            "released": [r._asdict() for r in self.released],
            "dispatch": [d._asdict() for d in self.dispatch],
        }
