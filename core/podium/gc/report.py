"""What a pass of gc did: `podium.gc/1`."""

from __future__ import annotations

from typing import Any, NamedTuple


class Kept(NamedTuple):
    """A pod that is not due."""

    uuid: str
    reason: str


class Failure(NamedTuple):
    """A pod that could not be collected, and stays as gc-failed."""

    uuid: str
    reason: str
    message: str
    attempts: int


class Released(NamedTuple):
    """A resource that was released, and by whom: `plugin`, `ledger` or `audit`."""

    uuid: str
    kind: str
    id: str
    by: str


class Dispatched(NamedTuple):
    """Whose code collected a pod; see `podium.stage1.dispatch.Choice`."""

    uuid: str
    stage1: str
    version: str
    digest: str
    via: str


class GcReport(NamedTuple):
    """See each field's type; `marked` and `collected` are uuids."""

    marked: list[str]
    collected: list[str]
    kept: list[Kept]
    failed: list[Failure]
    released: list[Released]
    dispatch: list[Dispatched]

    def to_json(self) -> dict[str, Any]:
        """As `podium gc --format json` prints it."""
        lists = {
            name: [item if isinstance(item, str) else item._asdict() for item in getattr(self, name)]
            for name in self._fields
        }
        return {"schema": "podium.gc/1", **lists}
