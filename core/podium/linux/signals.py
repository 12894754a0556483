"""Which signals a process that stands for another one hands on, and what a program that is executed begins with."""

from __future__ import annotations

import signal

FORWARDED = (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)
_HANDLED = (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGCHLD)


def reset() -> None:
    """Give what a supervisor handles its default again, in a child that will execute a program."""
    for number in _HANDLED:
        signal.signal(number, signal.SIG_DFL)
