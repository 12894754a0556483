"""JSON that must be exactly that: UTF-8, one value, no key twice, no NaN, within limits; faults tell their place."""

from __future__ import annotations

from podium.errors import BadInput, LimitExceeded
from podium.quickjson import Reader

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

MAX_BYTES = 4 << 20  # of a manifest; real ones have a few KiB
MAX_DEPTH = 64  # lists and objects in each other; a manifest needs eight
MAX_VALUES = 500_000  # in a document


class SyntaxFault(BadInput):
    """It is no JSON: `line` and `column` count from 1."""

    def __init__(self, message: str, *, line: int, column: int, subject: str | None = None) -> None:
        super().__init__(f"{message} at line {line}, column {column}", subject=subject)
        self.line = line
        self.column = column


def loads(data: bytes | bytearray | memoryview, what: str) -> Any:
    """The value that a JSON document holds.

    Args:
        data: the document.
        what: names it in errors.

    Raises:
        SyntaxFault: it is no JSON (RFC 8259), or not UTF-8.
        LimitExceeded: it is too large, too deep, or holds too many values.
        BadInput: an object has a key twice, or a number or text that JSON can't carry between programs.
    """
    if len(data) > MAX_BYTES:
        raise LimitExceeded(f"{what} is larger than {MAX_BYTES} bytes", subject=what)
    raw = bytes(data)
    if raw.startswith(b"\xef\xbb\xbf"):
        raise SyntaxFault(f"{what} is no JSON: a byte order mark", line=1, column=1, subject=what)
    try:
        text = raw.decode()
    except UnicodeDecodeError as e:
        line, column = raw.count(b"\n", 0, e.start) + 1, e.start - raw.rfind(b"\n", 0, e.start)
        fault = f"{what} is no JSON: byte 0x{raw[e.start]:02x} is not UTF-8"
        raise SyntaxFault(fault, line=line, column=column, subject=what) from None
    try:
        value = _read(text)
    except RecursionError:
        raise LimitExceeded(f"{what} is nested deeper than {MAX_DEPTH} levels", subject=what) from None
    except BadInput as e:
        raise BadInput(f"{what} is no proper JSON: {e.message}", subject=what) from None
    except ValueError:
        raise _fault(text, what) from None
    check_value(value, what)
    return value


def _fault(text: str, what: str) -> BadInput:
    """What is wrong with a text, and where: asked of `json`, which takes 5 ms to import."""
    import json

    try:
        json.loads(text)
    except json.JSONDecodeError as e:
        return SyntaxFault(f"{what} is no JSON: {e.msg}", line=e.lineno, column=e.colno, subject=what)
    except ValueError:
        pass  # more digits than Python reads
    return BadInput(f"{what} has a number with too many digits", subject=what)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        seen: set[str] = set()
        twice = next(k for k, _ in pairs if k in seen or seen.add(k))  # type: ignore[func-returns-value]
        raise BadInput(f"an object has the key {twice[:64]!r} twice")
    return result


def _refuse_constant(text: str) -> Any:
    raise BadInput(f"{text} is no JSON number")


def _finite(text: str) -> float:
    value = float(text)
    if value - value != 0:
        raise BadInput(f"the number {text[:64]} is too large")
    return value


_read = Reader(object_pairs_hook=_unique, parse_constant=_refuse_constant, parse_float=_finite)


def check_value(value: Any, what: str) -> None:
    """Refuse what a JSON document can't hold, or is too large.

    Raises:
        LimitExceeded: too deep, or too many values.
        BadInput: a type, key, number or text (a lone surrogate) that is not JSON's.
    """
    level, count, depth = [value], 0, 0
    while level:
        depth += 1
        below: list[Any] = []
        count += len(level)
        if count > MAX_VALUES:
            raise LimitExceeded(f"{what} has more than {MAX_VALUES} values", subject=what)
        if depth > MAX_DEPTH:
            raise LimitExceeded(f"{what} is nested deeper than {MAX_DEPTH} levels", subject=what)
        for item in level:
            if isinstance(item, dict):
                for key in item:
                    if not isinstance(key, str):
                        raise BadInput(f"{what} has a key that is no text: {key!r:.64}", subject=what)
                    _check_text(key, what)
                below.extend(item.values())
            elif isinstance(item, list):
                below.extend(item)
            elif isinstance(item, str):
                _check_text(item, what)
            elif isinstance(item, float):
                if item - item != 0:
                    raise BadInput(f"{what} has the number {item}, which JSON has not", subject=what)
            elif item is not None and not isinstance(item, int):
                raise BadInput(f"{what} has a value that is not JSON's: {type(item).__name__}", subject=what)
            if len(below) > MAX_VALUES:
                raise LimitExceeded(f"{what} has more than {MAX_VALUES} values", subject=what)
        level = below


def _check_text(text: str, what: str) -> None:
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            raise BadInput(f"{what} has half a surrogate pair in {text[:64]!r}", subject=what) from None
