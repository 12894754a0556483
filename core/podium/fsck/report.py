"""What a check finds, and what its repair did."""

from __future__ import annotations

from podium.errors import PodiumError
from podium.named import NamedTuple
from podium.trace import trace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

SCHEMA = "podium.fsck/1"

# What can't be read may be whole: too many files are open, say. Then it stays in its place.
READ_AGAIN = "see why it can't be read, then run 'podium fsck' again"


class Finding(NamedTuple):
    """One thing that is not as it should be.

    Attributes:
        kind: a machine word, such as `blob-altered`.
        subject: the id, name or path that it is about.
        message: what is wrong.
        advice: what a user should do; empty: nothing.
        damage: something was lost or altered; else it is only left over, or odd.
        repaired: what the repair did; None: nothing.
        mended: whether all is well after that; what was altered can only be put aside.
        failed: why the repair failed; None: it did not.
    """

    kind: str
    subject: str
    message: str
    advice: str = ""
    damage: bool = True
    repaired: str | None = None
    mended: bool = False
    failed: str | None = None


class Report:
    """What was found.

    Args:
        repair: whether what can be repaired is.

    Attributes:
        findings: in the order in which they were found.
        checked: how many of each kind of record were looked at.
    """

    def __init__(self, *, repair: bool) -> None:
        self.repair = repair
        self.findings: list[Finding] = []
        self.checked: dict[str, int] = {}
        self._later: list[tuple[int, Callable[[], str], bool]] = []

    def count(self, kind: str) -> None:
        """One more record of a kind was looked at."""
        self.checked[kind] = self.checked.get(kind, 0) + 1

    def add(
        self,
        kind: str,
        subject: str,
        message: str,
        advice: str = "",
        *,
        damage: bool = True,
        fix: Callable[[], str] | None = None,
        mends: bool = True,
        later: bool = False,
    ) -> None:
        """Note a finding, and repair it if that is wanted.

        Args:
            kind, subject, message, advice, damage: as in `Finding`.
            fix: repairs it; returns what it did.
            mends: whether nothing is left to be done then.
            later: repair only once the store's locks are free again.
        """
        self.findings.append(Finding(kind, subject, message, advice, damage))
        if self.repair and fix is not None:
            if later:
                self._later.append((len(self.findings) - 1, fix, mends))
            else:
                self._fix(len(self.findings) - 1, fix, mends)

    def leftover(self, kind: str, subject: str, message: str, take_away: Callable[[], str]) -> None:
        """Note what nobody needs, and take it away if repairs are wanted; it is no damage."""
        self.add(kind, subject, message, "'podium fsck --repair' takes it away", damage=False, fix=take_away)

    def finish(self) -> None:
        """Do the repairs that were put off."""
        for number, fix, mends in self._later:
            self._fix(number, fix, mends)
        self._later.clear()

    def _fix(self, number: int, fix: Callable[[], str], mends: bool) -> None:
        kind = self.findings[number].kind
        trace(f"fsck:repair:{kind}")
        try:
            self.findings[number] = self.findings[number]._replace(repaired=fix(), mended=mends)
        except (PodiumError, OSError) as e:
            self.findings[number] = self.findings[number]._replace(failed=str(e))
        trace(f"fsck:repaired:{kind}")

    @property
    def damaged(self) -> bool:
        """Whether damage is left."""
        return any(f.damage and not f.mended for f in self.findings)

    def to_json(self) -> dict[str, Any]:
        """As `podium.fsck/1`."""
        findings = [f._asdict() for f in self.findings]
        return {"schema": SCHEMA, "damaged": self.damaged, "checked": self.checked, "findings": findings}
