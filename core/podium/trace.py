"""Trace points: a name at each step that changes the world.

They cost one dictionary look-up. `PODIUM_TRACE_KILL=NAME[#N]` sends SIGKILL to the process that reaches NAME (for the
Nth time), which is how the fault tests stop podium at every one of them; PODIUM_TRACE_STOP sends SIGSTOP, so that they
can do harm around it at that moment; `PODIUM_TRACE_LOG=FILE` writes each name that
is reached, with the monotonic time in seconds and the pid before it. `PODIUM_TRACE_HOOKS=1` (and --debug) shows each
call of a plugin's hook on standard error.
"""

from __future__ import annotations

import os
import sys
import time

_KILL = os.environ.get("PODIUM_TRACE_KILL")
_STOP = os.environ.get("PODIUM_TRACE_STOP")
_LOG = os.environ.get("PODIUM_TRACE_LOG")
_SIGKILL, _SIGSTOP = 9, 19  # without the signal module, whose import takes a millisecond
_seen: dict[str, int] = {}
_hooks = os.environ.get("PODIUM_TRACE_HOOKS") == "1"


def trace(point: str) -> None:
    """Mark that `point` was reached."""
    if _KILL is None and _STOP is None and _LOG is None:
        return
    _seen[point] = _seen.get(point, 0) + 1
    if _LOG is not None:
        with open(_LOG, "a", encoding="utf-8") as log:
            log.write(f"{time.monotonic():.6f} {os.getpid()} {point}\n")
    if _is(_KILL, point):
        os.kill(os.getpid(), _SIGKILL)
    if _is(_STOP, point):
        os.kill(os.getpid(), _SIGSTOP)


def _is(wanted: str | None, point: str) -> bool:
    if wanted is None:
        return False
    name, _, count = wanted.rpartition("#") if "#" in wanted else (wanted, "", "1")
    return name == point and _seen[point] == int(count)


def show_hooks() -> None:
    """Show the calls of hooks from now on."""
    global _hooks
    _hooks = True


def hooks_shown() -> bool:
    """Whether the calls of hooks are shown."""
    return _hooks


def hook(text: str) -> None:
    """Show one call of a hook."""
    print(f"podium: {text}", file=sys.stderr, flush=True)
