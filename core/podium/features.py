"""Feature flags, as in ext4: what a podium may do with a record that was written by a newer one.

`format.json` and each pod's envelope carry three lists of flags. An unknown *compat* flag is ignored. An unknown
*ro_compat* flag allows what only needs the frozen parts: list, status, stop, gc, rm. An unknown *incompat* flag refuses
the record (or the whole data directory). A flag is set only once its feature is used.
"""

from __future__ import annotations

from podium.errors import NewerFormat
from podium.named import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# The noop flags change nothing: they are how the tests show that flags are obeyed.
COMPAT = frozenset({"noop-compat"})
RO_COMPAT = frozenset({"noop-ro-compat", "image-used"})
INCOMPAT = frozenset({"noop-incompat"})


class Features(NamedTuple):
    """The flags of one record."""

    compat: tuple[str, ...] = ()
    ro_compat: tuple[str, ...] = ()
    incompat: tuple[str, ...] = ()

    @classmethod
    def from_json(cls, data: Any) -> Features:
        """Lenient: what is not a list of strings is no flag."""
        if not isinstance(data, dict) or not any(data.values()):
            return cls()
        lists = (data.get(k) for k in cls._fields)
        return cls(*(tuple(str(f) for f in flags) if isinstance(flags, list) else () for flags in lists))

    def to_json(self) -> dict[str, list[str]]:
        """As it is stored."""
        return {k: list(v) for k, v in self._asdict().items()}

    def unknown_incompat(self) -> list[str]:
        """Flags that forbid any use of the record."""
        return [f for f in self.incompat if f not in INCOMPAT]

    def unknown_ro_compat(self) -> list[str]:
        """Flags that forbid all but list, status, stop, gc and rm."""
        return [f for f in self.ro_compat if f not in RO_COMPAT]

    def require(self, what: str, written_by: str, *, full: bool) -> None:
        """Refuse what the flags forbid.

        Args:
            what: names the record.
            written_by: the podium that wrote it.
            full: the use needs more than the frozen parts.

        Raises:
            NewerFormat: names the feature and the podium that wrote it.
        """
        blocking = self.unknown_incompat() or (self.unknown_ro_compat() if full else [])
        if blocking:
            raise NewerFormat(
                f"{what} uses {', '.join(repr(f) for f in blocking)}, which this podium does not know "
                f"(written by {written_by})",
                hint=f"use {written_by} or newer"
                + ("" if self.unknown_incompat() else "; list, status, stop, gc and rm work with this one"),
                subject=what,
            )
