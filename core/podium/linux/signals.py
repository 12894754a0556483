"""Signals: the module, which of them a process that stands for another one hands on, and what a program begins with.

`signal` is here what the standard library's module of that name is made of, without its enums of 60 constants, which
take 3 ms of a run, and which a supervisor that waits would keep: constants and what is returned are whole numbers.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal as signal
else:
    import _signal as signal

FORWARDED = (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)
_HANDLED = (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGCHLD)


def name_of(number: int) -> str | None:
    """`SIGTERM` for 15; None: it has no name."""
    from signal import Signals

    return Signals(number).name if number in set(Signals) else None


def reset() -> None:
    """Give what a supervisor handles its default again, in a child that will execute a program."""
    for number in _HANDLED:
        signal.signal(number, signal.SIG_DFL)
