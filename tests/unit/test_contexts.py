"""podium.contexts does what contextlib does."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest

from podium import contexts

BOTH = pytest.mark.parametrize("module", [contextlib, contexts], ids=["contextlib", "podium"])


class Own(Exception):
    pass


def _noted(module: ModuleType, notes: list[str], catch: tuple[type[BaseException], ...], then: str) -> Any:
    @module.contextmanager  # type: ignore[untyped-decorator]
    def block(name: str, *, to: str = "it") -> Iterator[str]:
        """Its text."""
        notes.append("begun")
        try:
            yield f"{name} {to}"
        except catch as e:
            notes.append(f"caught {type(e).__name__}")
            if then == "again":
                raise
            if then == "other":
                raise KeyError("other") from e
            if then == "yields":
                yield "twice"
        finally:
            notes.append("ended")

    return block


@BOTH
def test_the_block_gets_what_is_yielded(module: ModuleType) -> None:
    notes: list[str] = []
    block = _noted(module, notes, (), "")
    assert (block.__name__, block.__doc__) == ("block", "Its text.")
    with block("do", to="this") as got:
        notes.append(got)
    assert notes == ["begun", "do this", "ended"]


@BOTH
@pytest.mark.parametrize("error", [Own("x"), StopIteration("x"), KeyboardInterrupt(), GeneratorExit()])
@pytest.mark.parametrize("catch", [(), (Own,), (BaseException,)])
@pytest.mark.parametrize("then", ["", "again", "other", "yields"])
def test_errors_go_where_the_generator_lets_them(
    module: ModuleType, error: BaseException, catch: tuple[type[BaseException], ...], then: str
) -> None:
    def outcome(of: ModuleType) -> tuple[list[str], Any]:
        notes: list[str] = []
        try:
            with _noted(of, notes, catch, then)("x"):
                raise error
        except BaseException as e:
            return notes, (type(e), str(e), e is error)
        return notes, None

    assert outcome(module) == outcome(contextlib)


def test_a_generator_that_goes_on_is_told_of() -> None:
    @contexts.contextmanager
    def twice() -> Iterator[None]:
        yield
        yield

    with pytest.raises(RuntimeError, match="didn't stop"), twice():
        pass

    @contexts.contextmanager
    def never() -> Iterator[None]:
        if never is None:
            yield

    with pytest.raises(RuntimeError, match="didn't yield"), never():
        pass


@BOTH
def test_suppress_ends_the_block(module: ModuleType) -> None:
    with module.suppress(LookupError, Own):
        raise KeyError("x")
    with pytest.raises(ValueError, match="x"), module.suppress(LookupError, Own):
        raise ValueError("x")
    with module.suppress():
        pass


@BOTH
def test_nullcontext_does_nothing(module: ModuleType) -> None:
    with module.nullcontext(3) as got:
        assert got == 3
    with pytest.raises(Own), module.nullcontext():
        raise Own
