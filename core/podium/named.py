"""Named tuples that cost little to make.

`typing.NamedTuple` compiles every annotation, a third of what podium's own modules take to be imported, and
the module itself takes 3 ms. Type checkers are shown typing's; the classes are what `collections.namedtuple` makes.
"""

from __future__ import annotations

from collections import namedtuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any
    from typing import NamedTuple as NamedTuple
else:

    class _Meta(type):
        def __new__(mcs, name: str, bases: tuple[type, ...], body: dict[str, Any]) -> type:
            if not bases:
                return super().__new__(mcs, name, bases, body)
            fields = body.get("__annotations__", {})
            defaults = [body.pop(field) for field in fields if field in body]
            made = namedtuple(name, fields, defaults=defaults, module=body["__module__"])
            for key, value in body.items():
                if key not in ("__module__", "__qualname__"):
                    setattr(made, key, value)
            return made

    class NamedTuple(metaclass=_Meta):
        """As typing.NamedTuple: fields are annotated, those with a default last; methods and properties are kept."""
