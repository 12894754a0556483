"""A value of a manifest together with where it stands (`apps[2].app.exec[0]`), so that each fault names its place."""

from __future__ import annotations

from podium.appc import names
from podium.errors import BadInput

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from typing import Any

ID_MAX = 2**32 - 2  # the largest user or group id; the one above it means "unchanged" to the kernel


class Field:
    """One value. Each method that takes it for something raises `BadInput` with its place if it is not that.

    As in the reference implementation, a member that is null counts as absent.
    """

    __slots__ = ("path", "value")  # the path of a whole document is empty

    def __init__(self, value: Any, path: str) -> None:
        self.value = value
        self.path = path

    def bad(self, why: str) -> BadInput:
        """The error to raise: what is wrong with this value."""
        where = self.path or "the manifest"
        return BadInput(f"{where}: {why}", subject=where)

    def _wrong(self, wanted: str) -> BadInput:
        kinds = {
            dict: "an object",
            list: "a list",
            str: "a text",
            bool: "a boolean",
            int: "a number",
            float: "a number",
        }
        return self.bad(f"must be {wanted}, is {kinds.get(type(self.value), 'null')}")

    def members(self) -> dict[str, Any]:
        """The object that it is."""
        if not isinstance(self.value, dict):
            raise self._wrong("an object")
        return self.value

    def get(self, key: str) -> Field | None:
        """The member of that name of the object that it is, if present."""
        value = self.members().get(key)
        return None if value is None else Field(value, self._below(key))

    def need(self, key: str) -> Field:
        """The member of that name of the object that it is."""
        found = self.get(key)
        if found is None:
            raise Field(None, self._below(key)).bad("is missing")
        return found

    def _below(self, key: str) -> str:
        return f"{self.path}.{key}" if self.path else key

    def items(self) -> Iterator[Field]:
        """The elements of the list that it is."""
        if not isinstance(self.value, list):
            raise self._wrong("a list")
        return (Field(v, f"{self.path}[{i}]") for i, v in enumerate(self.value))

    def extra(self, known: frozenset[str]) -> dict[str, Any]:
        """Members that are not known: kept, since the schema is open."""
        return {k: v for k, v in self.members().items() if k not in known}

    def text(self) -> str:
        """Any text."""
        if not isinstance(self.value, str):
            raise self._wrong("a text")
        return self.value

    def passable(self) -> str:
        """A text that can be handed to the kernel: without NUL."""
        text = self.text()
        if "\0" in text:
            raise self.bad("has a NUL character in it")
        return text

    def filled(self) -> str:
        """A text that can be handed to the kernel and is not empty."""
        text = self.passable()
        if not text:
            raise self.bad("must not be empty")
        return text

    def absolute(self) -> str:
        """An absolute path."""
        text = self.filled()
        if not text.startswith("/"):
            raise self.bad(f"{text!r} must be an absolute path")
        return text

    def in_rootfs(self) -> str:
        """A path inside a rootfs, made absolute: the specification lets it be written without the first slash."""
        text = self.filled()
        return text if text.startswith("/") else f"/{text}"

    def flag(self) -> bool:
        """A boolean."""
        if not isinstance(self.value, bool):
            raise self._wrong("a boolean")
        return self.value

    def integer(self, low: int, high: int) -> int:
        """A whole number between two bounds, both included."""
        if not isinstance(self.value, int) or isinstance(self.value, bool):
            raise self._wrong("a whole number")
        if not low <= self.value <= high:
            raise self.bad(f"must be from {low} to {high}, is {self.value if abs(self.value) < 2**64 else 'far off'}")
        return self.value

    def name(self) -> str:
        """An AC Name."""
        return self._checked(names.is_ac_name, "an AC name (a-z, 0-9 and '-', not '-' first or last)")

    def identifier(self) -> str:
        """An AC Identifier."""
        return self._checked(names.is_ac_identifier, "an AC identifier (a-z, 0-9 and '-._~/', these not first or last)")

    def image_id(self) -> str:
        """An image id in appc's spelling."""
        return self._checked(names.is_image_id, "an image id (sha512-<hex>, or sha256-<64 hex digits>)")

    def _checked(self, test: Callable[[str], bool], wanted: str) -> str:
        text = self.text()
        if not test(text):
            raise self.bad(f"{text[:160]!r} is not {wanted}")
        return text

    def texts(self) -> dict[str, str]:
        """An object whose values are texts."""
        return {key: Field(value, self._below(shown(key))).text() for key, value in self.members().items()}


def shown(key: str) -> str:
    """A key whose name is free, as it stands in a place: on one line, and not endless."""
    return key[:64] if key.isprintable() else repr(key[:64])


def pairs(field: Field | None, what: str) -> dict[str, str]:
    """A list of `{"name", "value"}` with names that are AC Identifiers and unique (labels, annotations), in order.

    Args:
        field: the list, or None where it is absent.
        what: what one of them is called in errors.
    """
    result: dict[str, str] = {}
    for item in field.items() if field else ():
        name = item.need("name").identifier()
        if name in result:
            raise item.bad(f"a second {what} {name!r}")
        result[name] = item.need("value").text()
    return result


def unpairs(values: Mapping[str, str]) -> list[dict[str, str]]:
    """The list that `pairs` read."""
    return [{"name": k, "value": v} for k, v in values.items()]
