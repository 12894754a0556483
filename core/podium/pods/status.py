"""How a pod runs and how its apps ended: runtime.json and status/<app>.json, both sealed records.

They are written while the pod runs, so their loss in a power failure costs nothing but the answer: they are renamed
into place, not fsynced. On a full disk, where no new file can be made, they are written over the old one.
"""

from __future__ import annotations

import errno
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

    def to_json(self) -> dict[str, Any]:
        """As it is kept in status/<app>.json."""
        return {**self._asdict(), "process": self.process.to_json() if self.process else None}

    @classmethod
    def from_json(cls, name: str, data: dict[str, Any]) -> AppStatus:
        """Raises KeyError, TypeError or ValueError when a field is missing or wrong."""
        return cls(name, process=_process(data.get("process")), **_checked(data, _APP_TYPES))


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

    def to_json(self) -> dict[str, Any]:
        """As it is kept in runtime.json."""
        supervisor = self.supervisor.to_json() if self.supervisor else None
        leader = self.leader.to_json() if self.leader else None
        return {**self._asdict(), "supervisor": supervisor, "leader": leader}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Runtime:
        """Raises KeyError, TypeError or ValueError when a field is missing or wrong."""
        known = _checked(data, _RUNTIME_TYPES)
        known["networks"] = tuple({"name": str(n["name"]), "ip": str(n["ip"])} for n in known.get("networks", ()))
        return cls(_process(data.get("supervisor")), _process(data.get("leader")), **known)


def _write(path: str, record: dict[str, Any]) -> None:
    from podium.linux.files import write_atomic, write_over

    line = records.seal(record) + b"\n"
    try:
        write_atomic(path, line, durable=False)
    except OSError as e:
        if e.errno not in (errno.ENOSPC, errno.EDQUOT) or not write_over(path, line):
            raise


_PID_MAX = 1 << 22  # of the kernel, on 64 bits (proc_sys_kernel(5))
# The types of JSON as they are read: a boolean is no number.
_OPTIONAL_STR: tuple[type, ...] = (str, type(None))
_OPTIONAL_INT: tuple[type, ...] = (int, type(None))
_APP_TYPES = {
    "state": (str,),
    "exit_code": _OPTIONAL_INT,
    "signal": _OPTIONAL_STR,
    "started": _OPTIONAL_STR,
    "finished": _OPTIONAL_STR,
    "restarts": (int,),
    "message": _OPTIONAL_STR,
}
_RUNTIME_TYPES = {
    "cgroup": (str,),
    "started": _OPTIONAL_STR,
    "finished": _OPTIONAL_STR,
    "finished_boottime": (int, float, type(None)),
    "boot": _OPTIONAL_STR,
    "exit_code": _OPTIONAL_INT,
    "networks": (list,),
    "detached": (bool,),
    "via": (str,),
    "remove": (bool,),
    "facts": (dict,),
}


def _process(data: Any) -> Process | None:
    if data is None:
        return None
    pid, start, boot = data["pid"], data["start_time"], data["boot_id"]
    if type(pid) is not int or type(start) is not int or not isinstance(boot, str) or not 0 < pid <= _PID_MAX:
        raise ValueError(f"{data!r} is no process")
    return Process(pid, start, boot)


def _checked(data: dict[str, Any], types: dict[str, tuple[type, ...]]) -> dict[str, Any]:
    """The fields that `types` names, where they are there. Raises TypeError."""
    known = {}
    for key, kinds in types.items():
        if key not in data:
            continue
        value = known[key] = data[key]
        kind = type(value)
        if kind not in kinds:
            raise TypeError(f"{key} is {value!r}"[:200])
        if kind is str and not value.isascii():
            value.encode()  # JSON can spell half a character, which no path can
    return known


def write_app(folder: str, status: AppStatus) -> None:
    """Write an app's status into the pod's folder."""
    _write(os.path.join(folder, FOLDER, status.name + ".json"), status.to_json())


def read_app(folder: str, name: str) -> AppStatus:
    """An app's status; `waiting` when it was never started.

    Raises:
        Corrupt: the record is damaged.
    """
    what = f"the status of app {name} of pod {folder.rpartition('/')[2]}"
    try:
        data = records.read(f"{folder}/{FOLDER}/{name}.json", what)
    except FileNotFoundError:
        return AppStatus(name)
    try:
        return AppStatus.from_json(name, data)
    except (KeyError, TypeError, ValueError) as e:
        raise Corrupt(f"{what} is damaged: {e}", subject=what) from None


def write_runtime(folder: str, runtime: Runtime) -> None:
    """Write the pod's runtime.json."""
    _write(os.path.join(folder, RUNTIME), runtime.to_json())


def read_runtime(folder: str) -> Runtime | None:
    """The pod's runtime.json; None when it was never run.

    Raises:
        Corrupt: the record is damaged.
    """
    uuid = folder.rpartition("/")[2]
    what = f"the runtime record of pod {uuid}"
    try:
        data = records.read(f"{folder}/{RUNTIME}", what)
    except FileNotFoundError:
        return None
    try:
        runtime = Runtime.from_json(data)
        cgroup = runtime.cgroup
        if cgroup and (cgroup.rpartition("/")[2] != uuid or ".." in cgroup.split("/")):
            raise ValueError(f"the cgroup {cgroup!r} is not the pod's")  # it will be killed
        return runtime
    except (KeyError, TypeError, ValueError) as e:
        raise Corrupt(f"{what} is damaged: {e}", subject=what) from None
