"""Named tuples that cost little to make.

`typing.NamedTuple` compiles every annotation, a third of what podium's own modules take to be imported, and the module
itself takes 3 ms; `collections`, with what it imports, takes 2. Type checkers are shown typing's; the classes behave
as those of `collections.namedtuple`.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any
    from typing import NamedTuple as NamedTuple
else:
    from _collections import _tuplegetter

    _EARLY = 8

    class _Meta(type):
        def __new__(mcs, name: str, bases: tuple[type, ...], body: dict[str, Any]) -> type:
            if bases == (tuple,):
                return super().__new__(mcs, name, bases, body)
            fields = tuple(body.get("__annotations__", ()))
            defaults = {field: body.pop(field) for field in fields if field in body}
            body |= {field: _tuplegetter(place, None) for place, field in enumerate(fields)}
            body |= {"__new__": _early_new, "__slots__": (), "__match_args__": fields}
            body |= {"_fields": fields, "_field_defaults": defaults, "_early": [None] * _EARLY}
            return super().__new__(mcs, name, bases, body)

    def _early_new(cls, /, *values, **named):
        """Makes the first few of a class: of most, a command makes no more. Then the class gets its own `__new__`.

        That is compiled, as in collections: nothing else takes arguments by place and by name as quickly. But to
        compile it takes as long as to make 30 here. It also says what is wrong with arguments.
        """
        left, known = cls._fields[len(values) :], {**cls._field_defaults, **named}
        fit = len(values) <= len(cls._fields) and named.keys() <= set(left) <= known.keys()
        if fit and cls._early:
            cls._early.pop()
            return tuple.__new__(cls, (*values, *[known[field] for field in left]))
        fields = ", ".join(cls._fields)
        make = eval(f"lambda cls, {fields}: new(cls, ({fields},))", {"new": tuple.__new__})
        make.__defaults__ = tuple(cls._field_defaults.values())
        make.__qualname__ = f"{cls.__name__}.__new__"
        cls.__new__ = make
        return make(cls, *values, **named)

    class NamedTuple(tuple, metaclass=_Meta):
        """As typing.NamedTuple: fields are annotated, those with a default last; methods and properties are kept."""

        __slots__ = ()

        @classmethod
        def _make(cls, values):
            return cls(*values)

        def _asdict(self):
            return dict(zip(self._fields, self, strict=True))

        def _replace(self, /, **changes):
            made = type(self)(*[changes.pop(name, value) for name, value in zip(self._fields, self, strict=True)])
            if changes:
                raise ValueError(f"{type(self).__name__} has no {', '.join(changes)}")
            return made

        def __repr__(self):
            return f"{type(self).__name__}({', '.join(f'{k}={v!r}' for k, v in self._asdict().items())})"

        def __getnewargs__(self):
            return tuple(self)
