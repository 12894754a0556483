"""Durations and sizes as people write them."""

from __future__ import annotations

from podium.errors import BadInput

_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def duration(text: str) -> float:
    """Seconds of `90`, `1.5s`, `10m`, `1h30m`, `250ms`, `2d`.

    Raises:
        BadInput: it is no duration.
    """
    total, rest = 0.0, text.strip()
    try:
        if rest and rest[-1].isdigit():
            total = float(rest)
            rest = ""
        elif not rest:
            raise ValueError
        while rest:
            digits = len(rest) - len(rest.lstrip("0123456789."))
            unit = next(u for u in ("ms", "s", "m", "h", "d") if rest[digits:].startswith(u))
            total += float(rest[:digits]) * _SECONDS[unit]
            rest = rest[digits + len(unit) :]
    except (ValueError, StopIteration):
        raise BadInput(f"{text!r} is no duration", hint="write for example 30s, 10m, 1h30m or 2d") from None
    if not 0 <= total < 1e12:
        raise BadInput(f"{text!r} is no duration: out of range")
    return total


def human_size(size: float) -> str:
    """`1536` as `1.5 KiB`."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(size) < 1024:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TiB"


def human_age(seconds: float) -> str:
    """`90` as `1m`; the largest unit only."""
    for limit, unit, size in ((60, "s", 1), (3600, "m", 60), (86400, "h", 3600)):
        if seconds < limit:
            return f"{int(max(seconds, 0) // size)}{unit}"
    return f"{int(seconds // 86400)}d"
