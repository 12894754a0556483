"""A process above pytest that adopts and reaps orphans, as init would.

So what a test leaves running stays a descendant of the session, and the guard can tell it from what other people run on
the same machine; and a supervisor that ended is gone at once, not a zombie of pytest's.
"""

from __future__ import annotations

import os
import signal
from types import FrameType

import prctl


def keep() -> None:
    """Fork: the caller goes on in the child; the parent adopts, reaps, and ends as the child ends."""
    parent = os.getpid()
    child = os.fork()
    if child == 0:
        prctl.set_pdeathsig(signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)
        return
    prctl.set_child_subreaper(True)

    def forward(number: int, _frame: FrameType | None) -> None:
        os.kill(child, number)

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the terminal sends it to the child as well
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
        signal.signal(number, forward)
    while True:
        pid, status = os.wait()
        if pid == child:
            break
    _end_orphans()
    os._exit(os.waitstatus_to_exitcode(status) & 0xFF)


def _end_orphans() -> None:
    """Kill what the tests left, which the guard has told of, until nothing is left."""
    while True:
        with open(f"/proc/self/task/{os.getpid()}/children", encoding="ascii") as f:
            children = [int(pid) for pid in f.read().split()]
        if not children:
            return
        for pid in children:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
