"""Which signals a process that stands for another one hands on to it."""

from __future__ import annotations

import signal

FORWARDED = (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)
