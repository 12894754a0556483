"""Quantities of resources as appc writes them (ace.md, "Resource Isolators"): exact, never through floating point."""

from __future__ import annotations

_BINARY = {"Ki": 10, "Mi": 20, "Gi": 30, "Ti": 40, "Pi": 50, "Ei": 60}
_DECIMAL = {"m": -3, "": 0, "k": 3, "K": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}
_MAX = 2**63 - 1


def quantity(text: str, *, milli: bool = False) -> int:
    """`64Mi` as 67108864, `1G` as 1000000000, `1.5Ki` as 1536; with `milli`, `500m` as 500 and `2` as 2000.

    As in the reference implementation a decimal exponent (`1e3`) is understood, and what is finer than the unit is
    rounded up.

    Args:
        text: the quantity, not negative.
        milli: count in thousandths (millicores) instead of whole units (bytes, operations).

    Raises:
        ValueError: it is no quantity, negative, or above 2^63 - 1.
    """
    fault = f"{text[:64]!r} is no quantity (such as 500m, 64Mi, 1G or 1.5)"
    if len(text) > 64 or not text.isascii():
        raise ValueError(fault)
    body = text.removeprefix("+")
    end = len(body) - len(body.lstrip("0123456789."))
    number, suffix = body[:end], body[end:]
    whole, _, fraction = number.partition(".")
    if "." in fraction or not (whole + fraction):
        raise ValueError(fault)
    shift = 0
    if suffix in _BINARY:
        shift, power = _BINARY[suffix], 0
    elif suffix in _DECIMAL:
        power = _DECIMAL[suffix]
    elif suffix[0] in "eE" and suffix[1:].lstrip("+-").isdigit() and len(suffix) <= 5:
        try:
            power = int(suffix[1:])
        except ValueError:
            raise ValueError(fault) from None
    else:
        raise ValueError(fault)
    power += (3 if milli else 0) - len(fraction)
    mantissa = int(whole + fraction) << shift
    factor: int = 10 ** abs(power)
    value = mantissa * factor if power >= 0 else -(-mantissa // factor)
    if value > _MAX:
        raise ValueError(f"{text!r} is too large")
    return value
