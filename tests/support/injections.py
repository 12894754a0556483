"""Which calls of a command a sweep stops or fails, and with what; and what podium has to say then."""

from __future__ import annotations

import errno
import os
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from support import sweep
from support.command import Podium
from support.tracer import OPENS, Call, Fault, Traced

WRONG = {"KILL": 0, "ENOSPC": errno.ENOSPC, "EIO": errno.EIO, "EMFILE": errno.EMFILE}
CODES = {0, 1, 2, 3, 4, 5, 6, 7, 125}  # of docs/cli.md, where the app's own is 0
PATIENCE = 20.0


class Injection(NamedTuple):
    """One thing to do: `row` is what the sweep's table calls it."""

    row: str
    fault: Fault

    def __str__(self) -> str:
        return f"{self.fault.call.shape} #{self.fault.call.number}"


def traced(podium: Podium, words: Iterable[str], fault: Fault | None = None) -> Traced:
    """Run a podium command under the tracer."""
    return Traced(podium.argv(*words), podium.environment(), podium.dir, fault)


def planned(name: str, shapes: list[str], in_ci: int) -> Iterator[Injection]:
    """What is to be done to the command `name`, which makes these calls.

    Of calls that are made in the same step and differ by a number or one file among many alone (of a pin's 500 modules,
    of a tree, of the hierarchies of cgroups), the first and the last.
    """
    times = Counter(shapes)
    calls = [Call(shape, number) for shape, last in times.items() for number in sorted({1, last})]
    rows = {}
    for index, (what, error) in enumerate(WRONG.items()):
        # Nothing but what makes a descriptor can say that there are too many.
        able = [call for call in calls if what != "EMFILE" or call.name in OPENS]
        if not sweep.LONG:
            able = able[index :: len(WRONG)]  # each kind of fault meets other calls, where it can't meet all
        row = f"{what} in a call of {name.replace('_', ' ')}"
        rows[row] = [Injection(row, Fault(call, error)) for call in able]
        sweep.plan(row, len(able))
    for row, injections in rows.items():
        yield from sweep.todo(row, injections, in_ci)


def complaint(done: Traced, injection: Injection) -> str | None:
    """What is wrong about how the command ended, and what it said."""
    hit = done.hit()
    if hit is None or not injection.fault.error:
        return None
    mute = bool(done.code) and "podium: " not in done.err
    if done.code not in CODES or mute or "Traceback" in done.err or "internal error" in done.err:
        return f"{injection.row}: {injection} ({hit}): exited {done.code} and said {done.err!r}"
    return None


def on_copies(
    name: str, podium: Podium, words: tuple[str, ...], in_ci: int, copy: Callable[[], Callable[[], str | None]]
) -> list[str]:
    """Inject into a command that works on a data directory, which `copy` brings back; returns what was wrong.

    Args:
        name: of the command.
        podium: for that data directory.
        words: the command.
        in_ci: how many of its calls each kind of fault meets in CI.
        copy: what it returns tells what is wrong after the command.
    """
    copy()
    with traced(podium, words) as done:
        assert done.code == 0, done.err
    wrong = []
    for injection in planned(name, done.calls(), in_ci):
        judge = copy()
        with traced(podium, words, injection.fault) as done:
            pass
        faults = [fault for fault in (complaint(done, injection), judge()) if fault]
        wrong += [f"{injection.row}: {injection}: {fault}" for fault in faults]
        sweep.record(injection.row, injection, "\n".join(faults) or None, met=done.hit() is not None)
    return wrong


def let_end(folder: str) -> None:
    """Whoever works on that folder ends by himself: a supervisor without its client, the rm of --rm."""
    deadline = time.monotonic() + PATIENCE
    while working(folder):
        assert time.monotonic() < deadline, "a supervisor lives on"
        time.sleep(0.005)


def working(folder: str) -> list[int]:
    """Pids of the processes whose command line names something below that folder."""
    name, found = os.fsencode(folder), []
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                with open(f"/proc/{entry}/cmdline", "rb") as f:
                    if name in f.read():
                        found.append(int(entry))
            except OSError:
                pass  # it has ended meanwhile
    return found
