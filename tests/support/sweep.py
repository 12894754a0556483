"""How long the crash tests go on, and the table of what they did: `tests/faults/sweep` asks for the long form."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from typing import TypeVar

# A file that rows are added to; set by the script. Without it, the tests take a sample that a CI run has time for.
TABLE = os.environ.get("SWEEP_TABLE")
LONG = TABLE is not None
# Where there is no time for a whole sweep at once: of what could be done, every how manyth is, from which on.
EVERY = int(os.environ.get("SWEEP_EVERY", "1"))
FIRST = int(os.environ.get("SWEEP_FIRST", "0"))

T = TypeVar("T")


def sample(all: Sequence[T], number: int) -> list[T]:
    """All of them in a sweep; otherwise about `number`, evenly spread, the first and the last (of one: the middle)."""
    if LONG:
        return list(all[FIRST::EVERY])
    if len(all) <= number:
        return list(all)
    if number == 1:
        return [all[len(all) // 2]]
    return [all[round(i * (len(all) - 1) / (number - 1))] for i in range(number)]


def record(what: str, times: int, left: int) -> None:
    """Add a row: what was done to podium, how often, and after how many of these something was wrong or left."""
    if TABLE is not None and times:
        with open(TABLE, "a", encoding="utf-8") as f:
            f.write(json.dumps([what, times, left]) + "\n")
