"""How far long work is, for a progress bar."""

from __future__ import annotations

from collections.abc import Callable

Report = Callable[..., None]


class Meter:
    """Adds up what was done: bytes moved first, then perhaps bytes and files unpacked.

    Args:
        report: called with bytes done, bytes in all (None while that is not known) and files done; None: nobody looks.
        total: bytes in all.
    """

    def __init__(self, report: Report | None, total: int | None = None) -> None:
        self._report = report
        self._total = total
        self._done = self._files = 0

    def expect(self, total: int) -> None:
        """So many bytes will be moved."""
        self._total = total

    def reach(self, done: int) -> None:
        """So many bytes were moved by now."""
        self._done = done
        self._tell()

    def moved(self, count: int) -> None:
        """So many bytes more were moved."""
        self._done += count
        self._tell()

    def unpacked(self, count: int) -> None:
        """One file more, of so many bytes, was unpacked."""
        if not self._files:
            self._done, self._total = 0, None
        self._done += count
        self._files += 1
        self._tell()

    def _tell(self) -> None:
        if self._report is not None:
            self._report(self._done, self._total, self._files)
