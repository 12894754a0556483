"""What a pod's supervisor is while it only waits: a bare interpreter with streams to copy and signals to wait for.

A supervisor that had nothing to decide for a while executes this (resting.py): it is the same process, with the same
children and open files, and holds a third of the memory. When a signal comes, or its caller goes, it loads the
supervisor's code again, in this process, and is what it was.

The code is exactly what it was, too. What waits is the pod's pin: no upgrade can come between the exec and the last
import. What goes on is what is installed, if that is still the pin's, else the pin.
"""

from __future__ import annotations

import os
import sys

from podium.linux.signals import signal
from podium.quickjson import loads
from podium.sandbox.waiting import HEARD, Waiting
from podium.stage1.last_resort import end
from podium.trace import trace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, NoReturn


def main(fd: int) -> NoReturn:
    """Wait, then go on; `fd` is the file that resting.py wrote."""
    with open(fd, "rb", closefd=False) as file:
        record = loads(file.readline())
    os.set_inheritable(fd, False)
    for each in record["descriptors"]:
        os.set_inheritable(each, False)
    waiting = Waiting.taken_over(record["waiting"])
    signal.pthread_sigmask(signal.SIG_UNBLOCK, HEARD)
    _be_called("podium-resting")
    trace("run:resting")
    received, gone = b"", False
    while not (received or gone or waiting.called):
        try:
            received, gone = waiting.wait(None)
        except OSError:
            break  # who goes on meets it again, and knows what to do
    trace("run:rested")
    _be_called("podium")
    try:
        go_on = _taken_over(fd, record["code"], waiting)
    except BaseException as e:
        print(f"the supervisor's code can't be loaded any more: {type(e).__name__}: {e}", flush=True)
        end(fd)
    os.close(fd)
    go_on(received, gone)
    os._exit(0)


def _be_called(name: str) -> None:
    """What ps and top show."""
    with open("/proc/self/comm", "w", encoding="ascii") as f:
        f.write(name)


def _taken_over(fd: int, code: dict[str, Any], waiting: Waiting) -> Callable[[bytes, bool], None]:
    """The whole supervisor again."""
    _open_path(code)
    from podium.stage1.resting import read
    from podium.stage1.worker import take_over

    return take_over(read(fd, code), waiting)


def _open_path(code: dict[str, Any]) -> None:
    """Let the pod's own code be imported: as it is installed, where bytecode is, or from the pin."""
    if not code["in_pin"]:
        own, path = set(sys.modules), [*sys.path]
        _look_into([*code["path"], *path[1:]])
        try:
            from podium.stage1.resting import unchanged

            if unchanged(code):
                return
        except Exception:
            pass  # whatever is there now, it is something else
        for name in sys.modules.keys() - own:
            del sys.modules[name]
        code["in_pin"] = True
        _look_into(path)
    from podium.stage1.boot import NativeFinder

    with open(os.path.join(code["pin"], "pin.json"), "rb") as f:
        sys.meta_path.append(NativeFinder(loads(f.read())["native"], code["folders"]))
    from podium.paths import DataDir
    from podium.stage1 import pins

    pins.verify(DataDir(code["data"]), os.path.basename(code["pin"]))


def _look_into(path: list[str]) -> None:
    """Import from these folders, podium from the first."""
    sys.path[:] = path
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] == "podium" and hasattr(module, "__path__"):
            module.__path__ = [os.path.join(path[0], *name.split("."))]
