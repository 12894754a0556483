"""How long the crash tests go on, and the table of what they did: `tests/faults/sweep` asks for the long form."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any, TypeVar

# A file that lines are added to; set by the script. Without it, the tests take a sample that a CI run has time for.
TABLE = os.environ.get("SWEEP_TABLE")
LONG = TABLE is not None
# For several that work on it at once: of what is to be done, every how manyth is, from which on.
EVERY = int(os.environ.get("SWEEP_EVERY", "1"))
FIRST = int(os.environ.get("SWEEP_FIRST", "0"))
# Which code that is, as the table tells it.
COMMIT = os.environ.get("SWEEP_COMMIT", "")
_ENDS = time.monotonic() + float(os.environ.get("SWEEP_SECONDS", "inf"))

T = TypeVar("T")


def plan(what: str, number: int) -> None:
    """Tell the table how many things there are to do."""
    if LONG:
        _write(what=what, all=number)


def todo(what: str, all: Sequence[T], in_ci: int) -> Iterator[T]:
    """What of `all` is to be done now, each a row's `which` when it is made a string.

    In a sweep all that the table does not have yet as done and found right, until time is up; otherwise about `in_ci`,
    evenly spread, the first and the last (of one: the middle).
    """
    if not LONG:
        yield from _sample(all, in_ci)
        return
    plan(what, len(all))
    for each in all[FIRST::EVERY]:
        if (what, str(each)) in _done():
            continue
        if over():
            return
        yield each


def record(what: str, which: object, fault: str | None, *, met: bool = True) -> None:
    """Add a line: what was done to podium, which of all these things, and what was wrong or left then.

    Args:
        met: false: what it was to be done at did not come again.
    """
    if LONG:
        _write(what=what, which=str(which), fault=fault, met=met, commit=COMMIT)


def over() -> bool:
    """Whether this sweep's time is up."""
    return time.monotonic() > _ENDS


def whole(test: str) -> bool:
    """Whether the table has all that a test does."""
    return LONG and _share(test) in _whole()


def begun(test: str, *, whole: bool) -> None:
    """There is that test; `whole`: it has done all that it has to do, and found nothing wrong."""
    if LONG:
        _write(test=_share(test), whole=whole)


def _share(test: str) -> str:
    return f"{test} {FIRST}/{EVERY}"


def _sample(all: Sequence[T], number: int) -> list[T]:
    if len(all) <= number:
        return list(all)
    if number == 1:
        return [all[len(all) // 2]]
    return [all[round(i * (len(all) - 1) / (number - 1))] for i in range(number)]


@cache
def _whole() -> set[str]:
    """The tests that have done all."""
    return {line["test"] for line in _lines() if line.get("whole")}


@cache
def _done() -> set[tuple[str, str]]:
    """What the table had as done and found right when we began."""
    done = set[tuple[str, str]]()
    for line in _lines():
        if "which" in line:
            (done.add if line["fault"] is None else done.discard)((line["what"], line["which"]))
    return done


def _lines() -> list[dict[str, Any]]:
    with open(TABLE or os.devnull, encoding="utf-8") as f:
        return [json.loads(line) for line in f]


def _write(**line: object) -> None:
    with open(TABLE or os.devnull, "a", encoding="utf-8") as f:
        f.write(json.dumps(line) + "\n")
