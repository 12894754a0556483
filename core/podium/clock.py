"""Times as podium writes them: RFC 3339 in UTC, with milliseconds."""

from __future__ import annotations

import time


def rfc3339(seconds: float | None = None) -> str:
    """`seconds` since the epoch (now, if not given) as `2026-01-31T12:00:00.000Z`."""
    if seconds is None:
        seconds = time.time()
    millis = int(seconds * 1000)
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(millis // 1000))}.{millis % 1000:03d}Z"


def parse(text: str) -> float:
    """Seconds since the epoch of an RFC 3339 time.

    Raises:
        ValueError: it is none.
    """
    from datetime import UTC, datetime

    when = datetime.fromisoformat(text)
    return (when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp()


def since_boot() -> float:
    """Seconds since the machine started, suspends included (CLOCK_BOOTTIME); no clock change moves it."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)
