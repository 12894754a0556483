"""A podium that stands still at one of its trace points, so that a test can do something at that moment."""

from __future__ import annotations

import os
import subprocess

from support.command import Podium


def stopped_at(podium: Podium, point: str, *words: str) -> subprocess.Popen[str]:
    """Start a command that has stopped itself at `point`; SIGCONT lets it go on."""
    process = podium.using(podium.binary, PODIUM_TRACE_STOP=point).start(*words)
    assert os.WIFSTOPPED(os.waitpid(process.pid, os.WUNTRACED)[1])
    return process
