"""How long ago a pod ended, by a clock that nobody can set where there is one."""

from __future__ import annotations

import os
import time

from podium.clock import parse, since_boot
from podium.errors import Corrupt
from podium.linux.procs import boot_id
from podium.pods import status
from podium.pods.lifecycle import PodRef

MARKED = "marked"  # its modification time says when the pod was marked


def age(pod: PodRef) -> float:
    """Seconds since the pod ended; since it was marked, where its supervisor could not tell.

    In the same boot CLOCK_BOOTTIME counts. A stamp of the future (the clock was ahead) is as good as none.
    """
    try:
        runtime = status.read_runtime(pod.path)
    except Corrupt:
        runtime = None
    now = time.time()
    if runtime is not None and runtime.finished is not None:
        if runtime.boot == boot_id() and runtime.finished_boottime is not None:
            return since_boot() - runtime.finished_boottime
        try:
            ended = parse(runtime.finished)
        except ValueError:
            ended = now + 1
        if ended <= now:
            return now - ended
    return _since_mark(pod, now)


def _since_mark(pod: PodRef, now: float) -> float:
    path = os.path.join(pod.path, MARKED)
    try:
        marked = os.stat(path).st_mtime
    except FileNotFoundError:
        marked = now + 1
    if marked > now:
        mark(pod)
        return 0.0
    return now - marked


def mark(pod: PodRef) -> None:
    """Note that the pod was marked now; a full disk only makes its grace begin later."""
    try:
        fd = os.open(os.path.join(pod.path, MARKED), os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError:
        return
    os.utime(fd)
    os.close(fd)
