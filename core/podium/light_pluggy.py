"""pluggy, imported without the module `inspect`, which takes 5 ms of each run: it reads source text, and brings the
parser of Python, its tokenizer and its byte code with it. pluggy asks it for the kinds of objects and nothing else.

While pluggy is imported, `inspect` is the module made here. It answers these questions as the real one does, and gets
the real one for every other (another version's, or for an object of a kind that a stage1 plugin seldom is). Whoever
imports `inspect` afterwards has the real one.
"""

from __future__ import annotations

import sys
from types import (
    BuiltinFunctionType,
    FunctionType,
    MethodDescriptorType,
    MethodType,
    ModuleType,
    WrapperDescriptorType,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_ABSENT = object()
_SURE_ROUTINES = (FunctionType, MethodType, BuiltinFunctionType, MethodDescriptorType, WrapperDescriptorType)


class Inspect(ModuleType):
    """What stands in for `inspect`."""

    def __getattr__(self, name: str) -> Any:
        return getattr(_real(), name)

    @staticmethod
    def isclass(what: object) -> bool:
        """As inspect.isclass."""
        return isinstance(what, type)

    @staticmethod
    def ismodule(what: object) -> bool:
        """As inspect.ismodule."""
        return isinstance(what, ModuleType)

    @staticmethod
    def isfunction(what: object) -> bool:
        """As inspect.isfunction."""
        return isinstance(what, FunctionType)

    @staticmethod
    def ismethod(what: object) -> bool:
        """As inspect.ismethod."""
        return isinstance(what, MethodType)

    @staticmethod
    def isroutine(what: object) -> bool:
        """As inspect.isroutine."""
        return isinstance(what, _SURE_ROUTINES) or bool(_real().isroutine(what))

    @staticmethod
    def unwrap(function: Any) -> Any:
        """As inspect.unwrap."""
        return _real().unwrap(function) if hasattr(function, "__wrapped__") else function

    @staticmethod
    def getattr_static(of: object, name: str, default: object = _ABSENT) -> object:
        """As inspect.getattr_static."""
        if type(of) is type:
            found = _in_class(of, name)
        elif type(of) is ModuleType:
            by_type = _in_class(ModuleType, name)
            found = by_type if hasattr(type(by_type), "__set__") else vars(of).get(name, by_type)
        else:
            found = _ABSENT
        if found is not _ABSENT:
            return found
        return _real().getattr_static(of, name, *(() if default is _ABSENT else (default,)))


def _in_class(cls: type, name: str) -> object:
    return next((vars(base)[name] for base in cls.__mro__ if name in vars(base)), _ABSENT)


def _real() -> Any:
    import inspect

    return inspect


if "inspect" in sys.modules:
    import pluggy as pluggy
else:
    sys.modules["inspect"] = Inspect("inspect")
    try:
        import pluggy as pluggy
    finally:
        del sys.modules["inspect"]
