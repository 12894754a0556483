"""The end of a pod at rest whose code is nowhere to be had any more: neither installed, nor in its pin.

So its apps are killed, and how they ended is recorded; what else is the pod's is left to gc, as after a crash. What
this needs is in memory before.
"""

from __future__ import annotations

import os

from podium import records
from podium.clock import rfc3339
from podium.linux.files import write_atomic
from podium.quickjson import loads

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn

_WHY = "killed: the code of the pod's supervisor can't be loaded any more"


def end(fd: int) -> NoReturn:
    """End the pod; `fd` is the file that resting.py wrote."""
    try:
        with open(fd, "rb", closefd=False) as file:
            file.seek(0)
            file.readline()
            record = loads(file.readline())
        for app in reversed(record["supervisor"]["apps"]):
            if app["values"]["_pid"]:
                _end_app(record["run"]["folder"], app)
    finally:
        os._exit(125)


def _end_app(folder: str, app: dict[str, Any]) -> None:
    pid, message = app["values"]["_pid"], None
    ended, status = os.waitpid(pid, os.WNOHANG)
    if not ended:
        os.kill(pid, 9)
        status, message = os.waitpid(pid, 0)[1], _WHY
    code = os.waitstatus_to_exitcode(status)
    code = 128 - code if code < 0 else code
    app["status"].update(state="exited", process=None, exit_code=code, finished=rfc3339(), message=message)
    path = os.path.join(folder, "status", app["status"]["name"] + ".json")
    write_atomic(path, records.seal(app["status"]) + b"\n", durable=False)
