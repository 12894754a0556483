"""What is left of `typing` at run time for code that annotates with it and does nothing else: names.

`typing` takes 10 ms of each run, with the regular expressions, enums and named tuples that it brings. The public types
of podium take from here what they need when they are executed, and pluggy is imported with this in its place
(light_pluggy). Type checkers see the real one everywhere.
"""

from __future__ import annotations

TYPE_CHECKING = False


class _Form:
    """A special form or a type variable: whatever is made of it in an annotation is it again."""

    def __init__(self, *about: object, **more: object) -> None:
        """Of a type variable: nobody asks for it."""

    def __getitem__(self, of: object) -> _Form:
        return self

    def __or__(self, other: object) -> _Form:
        return self

    __ror__ = __or__


TypeVar = _Form
Any = ClassVar = Final = NoReturn = Optional = Self = TypeAlias = Union = _Form()


class Generic:
    """A base class."""

    def __class_getitem__(cls, of: object) -> type:
        return cls


class Protocol(Generic):
    """A base class."""


class TypedDict(dict):  # type: ignore[type-arg]
    """A base class."""


def cast(to: object, value: object) -> object:
    """The value."""
    return value


def final(decorated: object) -> object:
    """The function or class."""
    return decorated


overload = final


def dataclass_transform(**about: object) -> object:
    """A decorator that does nothing."""
    return final
