"""How a pod runs and how its apps ended: runtime.json and status/<app>.json, both sealed records.

They are written while the pod runs, so their loss in a power failure costs nothing but the answer: they are renamed
into place, not fsynced.
"""

from __future__ import annotations

import os

from podium import records
from podium.errors import Corrupt
from podium.linux.procs import Process
from podium.named import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

RUNTIME = "runtime.json"
FOLDER = "status"


class AppStatus(NamedTuple):
    """How an app runs or ended.

    Attributes:
        name: of the app.
        state: `waiting`, `running` or `exited`.
        process: its first process, while it runs.
        exit_code: 0..255; 128 + the signal's number for a death by signal; 125, 126, 127 if it could not be started.
        signal: name of the signal that ended it.
        started, finished: RFC 3339.
        restarts: how often it was started again.
        message: why it could not be started, or was ended by podium.
    """

    name: str
    state: str = "waiting"
    process: Process | None = None
    exit_code: int | None = None
    signal: str | None = None
    started: str | None = None
    finished: str | None = None
    restarts: int = 0
    message: str | None = None


class Runtime(NamedTuple):
    """How a pod is run.

    Attributes:
        supervisor: the process that holds the pod.
        leader: the sandbox's first process, where it has one.
        cgroup: the pod's cgroup, below every hierarchy.
        started, finished: RFC 3339.
        finished_boottime: seconds since the boot when it ended, and
        boot: the boot they count from; no clock change moves them.
        exit_code: the pod's.
        networks: [{"name", "ip"}].
        detached: its output goes to logs/.
        via: how its code was found: installed, pin or compatible.
        remove: it is to be collected as soon as it has ended (--rm).
        facts: what the stage1 says of the run (accelerator, kernel …).
    """

    supervisor: Process | None = None
    leader: Process | None = None
    cgroup: str = ""
    started: str | None = None
    finished: str | None = None
    finished_boottime: float | None = None
    boot: str | None = None
    exit_code: int | None = None
    networks: tuple[dict[str, Any], ...] = ()
    detached: bool = False
    via: str = "installed"
    remove: bool = False
    facts: dict[str, Any] = {}


def _write(path: str, record: dict[str, Any]) -> None:
    from podium.linux.files import write_atomic

    write_atomic(path, records.seal(record) + b"\n", durable=False)


def _process(data: Any) -> Process | None:
    return None if data is None else Process.from_json(data)


def write_app(folder: str, status: AppStatus) -> None:
    """Write an app's status into the pod's folder."""
    process = status.process.to_json() if status.process else None
    _write(os.path.join(folder, FOLDER, status.name + ".json"), {**status._asdict(), "process": process})


def read_app(folder: str, name: str) -> AppStatus:
    """An app's status; `waiting` when it was never started.

    Raises:
        Corrupt: the record is damaged.
    """
    what = f"the status of app {name} of pod {os.path.basename(folder)}"
    try:
        data = records.read(os.path.join(folder, FOLDER, name + ".json"), what)
    except FileNotFoundError:
        return AppStatus(name)
    try:
        known = {k: v for k, v in data.items() if k in AppStatus._fields}
        return AppStatus(**{**known, "process": _process(data.get("process"))})
    except (KeyError, TypeError, ValueError) as e:
        raise Corrupt(f"{what} is damaged: {e}", subject=what) from None


def write_runtime(folder: str, runtime: Runtime) -> None:
    """Write the pod's runtime.json."""
    record = runtime._asdict()
    record["supervisor"] = runtime.supervisor.to_json() if runtime.supervisor else None
    record["leader"] = runtime.leader.to_json() if runtime.leader else None
    _write(os.path.join(folder, RUNTIME), record)


def read_runtime(folder: str) -> Runtime | None:
    """The pod's runtime.json; None when it was never run.

    Raises:
        Corrupt: the record is damaged.
    """
    what = f"the runtime record of pod {os.path.basename(folder)}"
    try:
        data = records.read(os.path.join(folder, RUNTIME), what)
    except FileNotFoundError:
        return None
    try:
        known = {k: v for k, v in data.items() if k in Runtime._fields}
        known["networks"] = tuple(data.get("networks", ()))
        known["supervisor"], known["leader"] = _process(data.get("supervisor")), _process(data.get("leader"))
        return Runtime(**known)
    except (KeyError, TypeError, ValueError) as e:
        raise Corrupt(f"{what} is damaged: {e}", subject=what) from None
