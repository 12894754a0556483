"""Processes: `attrs` have pid, start_time and boot_id; anything less names no process."""

from __future__ import annotations

from signal import SIGKILL

from podium.gc.reclaim import Leftover
from podium.linux import procs
from podium.linux.procs import Process

TYPE_CHECKING = False
if TYPE_CHECKING:
    from podium.gc.reclaim import Claim

_TIMEOUT = 5.0  # seconds that a killed process may take to end


def end(process: Process, uuid: str) -> None:
    """Kill exactly this process and wait until it has ended.

    Raises:
        Leftover: it survives SIGKILL.
    """
    procs.signal_process(process, SIGKILL)
    if not procs.wait_end(process, _TIMEOUT):
        raise Leftover(f"process {process.pid} of pod {uuid} survives SIGKILL", subject=str(process.pid))


def _process(claim: Claim) -> Process | None:
    """The process; None if it was never identified: it was not started, or it ends with the pod's cgroup."""
    try:
        return Process.from_json(dict(claim.resource.attrs))
    except (KeyError, TypeError, ValueError):
        return None


def present(claim: Claim) -> bool:
    """See the package."""
    process = _process(claim)
    return process is not None and procs.alive(process)


def release(claim: Claim) -> None:
    """See the package."""
    process = _process(claim)
    assert process is not None
    end(process, claim.uuid)
