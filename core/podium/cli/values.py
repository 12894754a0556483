"""Values of options as they are written on a command line. What is wrong raises ValueError, or an error of podium's."""

from __future__ import annotations

from podium.errors import BadUsage

_INF = float("inf")  # `math` costs 0.2 ms

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


def key_value(text: str) -> tuple[str, str]:
    """`K=V`."""
    key, equals, value = text.partition("=")
    if not key or not equals:
        raise ValueError(f"{text!r} is not of the form NAME=VALUE")
    return key, value


def commas(text: str) -> list[str]:
    r"""The parts between commas; `\\,` is a comma in a part, `\\\\` a backslash."""
    parts, part, escaped = [], "", False
    for char in text:
        if escaped:
            part += char if char in ",\\" else f"\\{char}"
            escaped = False
        elif char == "\\":
            escaped = True
        elif char == ",":
            parts.append(part)
            part = ""
        else:
            part += char
    return [*parts, part + ("\\" if escaped else "")]


def fields(text: str, known: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """`a,k=v,…` as the parts without `=` and the others; a key that is not known, or there twice, is refused."""
    words: list[str] = []
    found: dict[str, str] = {}
    for part in commas(text):
        key, equals, value = part.partition("=")
        if not equals:
            words.append(part)
        elif key not in known:
            raise ValueError(f"{key!r} is not one of {', '.join(known)}")
        elif key in found:
            raise ValueError(f"{key} is there twice")
        else:
            found[key] = value
    return words, found


def flag(text: str) -> bool:
    """`true` or `false`."""
    if text not in ("true", "false"):
        raise ValueError(f"{text!r} is neither true nor false")
    return text == "true"


def whole(low: int, high: float = _INF) -> Callable[[str], int]:
    """A converter to a whole number between two bounds."""

    def convert(text: str) -> int:
        digits = text.removeprefix("-")
        number = int(text) if digits.isascii() and digits.isdigit() and len(digits) < 20 else None
        if number is None or not low <= number <= high:
            bounds = f"from {low} to {high}" if high != _INF else f"of {low} or more"
            raise ValueError(f"{text!r} is no whole number {bounds}")
        return number

    return convert


def seconds(text: str) -> float:
    """A duration."""
    from podium.units import duration

    return duration(text)


def optional_seconds(text: str) -> float:
    """A duration; infinite without."""
    return seconds(text) if text else _INF


def moment(text: str) -> float:
    """A time as seconds since the epoch: RFC 3339, or how long ago (`10m`)."""
    from podium.clock import parse
    from podium.errors import BadInput

    try:
        return parse(text)
    except ValueError:
        pass
    try:
        import time

        return time.time() - seconds(text)
    except BadInput:
        raise ValueError(
            f"{text!r} is no time: write one such as 2026-01-31T12:00:00Z, or how long ago, such as 10m"
        ) from None


def signal_number(text: str) -> int:
    """A signal by name, with or without SIG, or by number."""
    from podium.pods.model import signal_number as number

    return number(text)


def unique(pairs: Sequence[tuple[str, str]], option: str) -> dict[str, str]:
    """A dict of what a repeated option gave.

    Raises:
        BadUsage: a name is there twice with different values.
    """
    result: dict[str, str] = {}
    for key, value in pairs:
        if result.setdefault(key, value) != value:
            raise BadUsage(f"{option}: {key} is given twice", subject=key)
    return result
