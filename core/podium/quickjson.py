"""JSON as the `json` module has it, without that module: its import compiles eight regular expressions, which takes
5 ms, a fifth of `podium list`. The parser and the encoder are the same, those written in C for `json`.
"""

from __future__ import annotations

from _json import encode_basestring_ascii, make_encoder, make_scanner

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

_SPACE = " \t\n\r"
_CONSTANTS = {"NaN": float("nan"), "Infinity": float("inf"), "-Infinity": float("-inf")}


class Reader:
    """Reads JSON texts, with some of the hooks that `json.loads` takes, by the same names."""

    # What the C scanner asks of a `json.JSONDecoder`.
    strict = True
    object_hook = None
    object_pairs_hook: Callable[[list[tuple[str, Any]]], Any] | None = None
    parse_float: Callable[[str], Any] = float
    parse_int = int
    parse_constant: Callable[[str], Any] = _CONSTANTS.__getitem__

    def __init__(self, **hooks: Callable[[Any], Any]) -> None:
        self.__dict__.update(hooks)
        self._hooks: dict[str, Any] = hooks
        self._scan = make_scanner(self)  # type: ignore[arg-type]  # any object with these attributes

    def __call__(self, text: str) -> Any:
        """The value of a text. Raises as `loads`, and what a hook raises."""
        try:
            value, end = self._scan(text, 0 if text[:1] == "{" else len(text) - len(text.lstrip(_SPACE)))
        except SystemError:
            # Up to Python 3.12 the scanner finds its error's class only where json.decoder is imported already.
            import json

            value, end = json.loads(text, **self._hooks), len(text)
        except StopIteration as e:
            raise ValueError(f"a JSON value is missing at character {e.value}") from None
        if end != len(text) and text[end:].strip(_SPACE):
            raise ValueError(f"something follows the JSON value at character {end}")
        return value


_read = Reader()


def _refuse(value: object) -> Any:
    raise TypeError(f"{type(value).__name__} can't be written as JSON")


def loads(data: str | bytes) -> Any:
    """The value of a JSON text (bytes: UTF-8).

    Raises:
        ValueError: it is none.
        RecursionError: it is nested too deeply.
    """
    return _read(data if isinstance(data, str) else data.decode(errors="surrogatepass"))


def dumps(value: Any, separators: tuple[str, str] = (", ", ": ")) -> str:
    """The value as JSON, in ASCII.

    Raises:
        TypeError: it holds what JSON has not.
        ValueError: it holds itself.
    """
    between, after_key = separators
    encode = make_encoder({}, _refuse, encode_basestring_ascii, None, after_key, between, False, False, True)
    return "".join(encode(value, 0))
