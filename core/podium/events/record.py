"""An event: one transition of a pod or an image."""

from __future__ import annotations

from podium.named import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

SCHEMA = "podium.event/1"
KINDS = (
    "image-imported",
    "image-removed",
    "pod-prepared",
    "pod-started",
    "app-exited",
    "pod-exited",
    "pod-stopped",
    "pod-marked",
    "pod-collected",
    "pod-gc-failed",
)


class Event(NamedTuple):
    """One transition.

    Attributes:
        id: made of the subject and the transition: an event that a crash repeats has the id of the first.
        kind: one of KINDS.
        subject: uuid of the pod, or id of the image.
        details: what filters look at (name, stage1, labels, images, app, exit_code), and more.
        time: RFC 3339, when it was noted.
        seq: its number in the log; 0 before it is there.
    """

    id: str
    kind: str
    subject: str
    details: dict[str, Any]
    time: str = ""
    seq: int = 0

    def to_json(self) -> dict[str, Any]:
        """As it is stored (without the checksum), printed and given to hooks."""
        return {"schema": SCHEMA, **self._asdict()}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Event:
        """Fields that this version does not know are ignored. Raises KeyError, TypeError, ValueError."""
        return cls(
            str(data["id"]),
            str(data["kind"]),
            str(data["subject"]),
            dict(data["details"]),
            str(data["time"]),
            int(data["seq"]),
        )
