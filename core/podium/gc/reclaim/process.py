"""A process: the pod's if pid, start time and boot are those that the ledger has."""

from __future__ import annotations

import signal

from podium.errors import Failed
from podium.gc.reclaim import refuse
from podium.linux import procs
from podium.pods.lifecycle import PodRef
from podium.types import Resource

TIMEOUT = 5.0  # seconds


def release(pod: PodRef, resource: Resource) -> None:
    """See `podium.gc.reclaim.reclaim`."""
    try:
        process = procs.Process.from_json(dict(resource.attrs))
    except (KeyError, TypeError, ValueError):
        if not resource.held:
            return  # it was never started, or nobody could say as what
        raise refuse(pod, resource, "the ledger does not say when it was started") from None
    if procs.signal_process(process, signal.SIGKILL) and not procs.wait_end(process, TIMEOUT):
        raise Failed(f"process {process.pid} survives SIGKILL", subject=pod.uuid)
