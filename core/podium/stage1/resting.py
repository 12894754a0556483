"""How a supervisor goes to rest: it executes waiter.py, and tells it in a file in memory what it needs to go on.

That file has two lines of JSON: what is needed to wait, and what is needed to be the supervisor again.
"""

from __future__ import annotations

import os
import sys

from podium.errors import Failed
from podium.linux.signals import signal
from podium.named import NamedTuple
from podium.paths import DataDir
from podium.pods import envelope as envelopes
from podium.pods import model
from podium.quickjson import dumps, loads
from podium.sandbox.handover import Handover
from podium.sandbox.waiting import HEARD
from podium.stage1 import pins
from podium.stage1.registry import Plugin, locate
from podium.types import Pod

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class Run(NamedTuple):
    """The call of the `run` hook that a supervisor serves.

    Attributes:
        number: of the request.
        channel: descriptor of the socket that the answer goes to.
        afterwards: what the process becomes once it has answered.
        folder: the pod's.
        settings: of its stage1, see `Pod`.
        kept: its envelope and manifest as they were read, one character a byte: nobody's damage of them ends a pod.
        code: the code that serves it.
    """

    number: int
    channel: int
    afterwards: list[str]
    folder: str
    settings: dict[str, Any]
    kept: tuple[str, str]
    code: dict[str, Any]

    def pod(self) -> Pod:
        """The pod. Raises Corrupt."""
        envelope, manifest = (each.encode("latin-1") for each in self.kept)
        return model.load(self.folder, model.Kept(envelope, manifest)).replace(settings=self.settings)


def begin(number: int, channel: int, afterwards: list[str], pod: Pod, via: str) -> Run:
    """The run of a pod that is about to rest for the first time.

    Raises:
        Failed: it can't rest.
        PodiumError: its files have been damaged.
    """
    kept = model.read(pod.dir)
    texts = (kept.envelope.decode("latin-1"), kept.manifest.decode("latin-1"))
    run = Run(number, channel, afterwards, pod.dir, dict(pod.settings), texts, _code(pod, via))
    if run.pod() != pod:
        raise Failed("the pod's manifest was changed")
    return run


def _code(pod: Pod, via: str) -> dict[str, Any]:
    """Where the code is that serves the pod.

    The pin; unless that serves from the beginning, the `path` on which the same is installed; and the folders of
    compiled modules.
    """
    data, stage1 = DataDir(pod.data_root), envelopes.read(pod.dir).stage1
    code: dict[str, Any] = {
        "data": pod.data_root,
        "pin": data.pin(stage1.pin),
        "plugin": [stage1.name, stage1.entry, stage1.distribution, stage1.version],
        "in_pin": via == "pin",
    }
    if via == "pin":
        (finder,) = [each for each in sys.meta_path if type(each).__name__ == "NativeFinder"]
        return {**code, "path": [], "folders": list(finder.folders)}  # type: ignore[attr-defined]
    core = locate("podium")
    assert core is not None
    path = [os.path.dirname(core), *(folder for folder in sys.path[1:] if os.path.isabs(folder))]
    return {**code, "path": list(dict.fromkeys(path)), "folders": pins.native_paths()}


def unchanged(code: dict[str, Any]) -> bool:
    """Whether what is installed is still the pod's pin."""
    pinned: str = os.path.basename(code["pin"])
    return pins.current(DataDir(code["data"]), Plugin(*code["plugin"])).pin == pinned


def rest(run: Run, handover: Handover) -> None:
    """Become the process that waits. Returns when a signal has come meanwhile.

    Raises:
        PodiumError, OSError: that can't be.
    """
    code = run.code
    pins.verify(DataDir(code["data"]), os.path.basename(code["pin"]))
    program = os.path.join(code["pin"], "lib", "podium", "stage1", "wait.py")
    argv = [_interpreter(), "-I", "-S", "-B", program]
    fds = {*handover.descriptors, run.channel}
    waits = {"waiting": handover.waiting, "descriptors": sorted(fds), "code": code}
    goes_on = {"run": run._asdict(), "supervisor": handover.supervisor, "sandbox": handover.sandbox}
    file = os.memfd_create("podium-supervisor")
    signal.pthread_sigmask(signal.SIG_BLOCK, HEARD)  # they stay pending over the exec
    try:
        if handover.signalled():
            return
        with open(file, "wb", closefd=False) as f:
            f.write(f"{dumps(waits)}\n{dumps(goes_on)}\n".encode())
        os.lseek(file, 0, os.SEEK_SET)
        for fd in (file, *fds):
            os.set_inheritable(fd, True)
        sys.stdout.flush()
        os.execv(argv[0], [*argv, str(file), run.folder])
    finally:
        for fd in fds:
            os.set_inheritable(fd, False)
        os.close(file)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, HEARD)


def _interpreter() -> str:
    """The interpreter that this is; a program that has one inside can't be executed in its place. Raises Failed."""
    path = sys.executable
    same = path and os.path.samefile(path, "/proc/self/exe")
    if not same or not os.path.basename(os.path.realpath(path)).startswith("python") or "PYTHONHOME" in os.environ:
        raise Failed(f"{path or 'nothing'!r} is not known to run podium as this process does")
    return path


class Taken(NamedTuple):
    """What `rest` left for the process that goes on."""

    run: Run
    supervisor: dict[str, Any]
    sandbox: dict[str, Any]


def read(fd: int, code: dict[str, Any]) -> Taken:
    """The second line of the file. `code` is where it has been found by now."""
    with open(fd, "rb", closefd=False) as file:
        file.seek(0)
        file.readline()
        record = loads(file.readline())
    run = {**record["run"], "kept": tuple(record["run"]["kept"]), "code": code}
    return Taken(Run(**run), record["supervisor"], record["sandbox"])
