"""pluggy, imported without what it needs for annotations and traces only.

`inspect` reads source text, and brings the parser of Python, its tokenizer and its byte code with it: 5 ms of each run.
`typing` brings regular expressions, enums and named tuples: 10. While pluggy is imported, there are others in their
places. `podium.light_typing` is `typing`, which pluggy annotates with. `inspect`, which it asks for the kinds of
objects, is a module that answers these questions as the real one does, and gets the real one for every other (another
version's, or for an object of a kind that a stage1 plugin seldom is). `enum` is the real one once it is asked for
anything, and `collections.abc` what that is made of. Whoever imports them afterwards has the real ones.
"""

from __future__ import annotations

import _collections_abc
import sys
from types import (
    BuiltinFunctionType,
    FunctionType,
    MethodDescriptorType,
    MethodType,
    ModuleType,
    WrapperDescriptorType,
)

from podium import light_typing

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_ABSENT = object()
_SURE_ROUTINES = (FunctionType, MethodType, BuiltinFunctionType, MethodDescriptorType, WrapperDescriptorType)


class Late(ModuleType):
    """What stands in for a module until it is asked for anything."""

    def __getattr__(self, name: str) -> Any:
        if name == "__path__":  # `from … import` asks whether it is a package
            raise AttributeError(name)
        return getattr(_real(self.__name__), name)


class Inspect(Late):
    """What stands in for `inspect`."""

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
        return isinstance(what, _SURE_ROUTINES) or bool(_real("inspect").isroutine(what))

    @staticmethod
    def unwrap(function: Any) -> Any:
        """As inspect.unwrap."""
        return _real("inspect").unwrap(function) if hasattr(function, "__wrapped__") else function

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
        return _real("inspect").getattr_static(of, name, *(() if default is _ABSENT else (default,)))


def _in_class(cls: type, name: str) -> object:
    return next((vars(base)[name] for base in cls.__mro__ if name in vars(base)), _ABSENT)


def _real(name: str) -> ModuleType:
    """The module itself; if pluggy asks for it while it is imported, it gets the real ones from then on."""
    _step_aside()
    return __import__(name)


def _step_aside() -> None:
    real = getattr(sys.modules.get("collections"), "abc", None)  # from Python 3.13 on there is no file to import again
    for name, module in _STAND_INS.items():
        if sys.modules.get(name) is module and module is not real:
            del sys.modules[name]


_STAND_INS: dict[str, ModuleType] = {
    "collections.abc": _collections_abc,
    "enum": Late("enum"),
    "inspect": Inspect("inspect"),
    "typing": Late("typing"),
}
vars(_STAND_INS["typing"]).update({name: what for name, what in vars(light_typing).items() if name[0] != "_"})
sys.modules.update({name: module for name, module in _STAND_INS.items() if name not in sys.modules})
try:
    import pluggy as pluggy
finally:
    _step_aside()
