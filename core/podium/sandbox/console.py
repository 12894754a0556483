"""The console of a sandbox that has one (a virtual machine's guest): kept in the pod's logs, of bounded size.

`logs/_console` is what was printed last; when it is full it becomes `logs/_console.1`, and the one before is gone.
`podium logs --console` shows both.
"""

from __future__ import annotations

import os
from _socket import socket

from podium.sandbox.stdio import LOGS, OLDER, AppLog

TYPE_CHECKING = False
if TYPE_CHECKING:
    from _socket import socket
    from collections.abc import Callable
    from typing import Any, Self

NAME = "_console"  # no app's name: those have no underscore
MAX_BYTES = 1 << 18  # of a file; there are at most two
_TAIL = 1 << 14
_PANIC = "] Kernel panic - not syncing: "


class ConsolePump:
    """A `podium.types.Pump` that copies what is printed on a console to the pod's logs.

    A guest can print for ever; what it costs is twice MAX_BYTES.
    """

    def __init__(self, pod_dir: str, end: socket) -> None:
        """`end`: a connected socket on which the console's output arrives."""
        self._end = end
        self._log = AppLog(pod_dir, NAME, MAX_BYTES)
        self._log.open()
        self._tail = b""

    def handed_on(self, keep: Callable[[int], int]) -> dict[str, Any]:
        """See `podium.sandbox.stdio.AppLog.handed_on`."""
        tail = self._tail.decode("latin-1")
        return {"end": keep(self._end.fileno()), "log": self._log.handed_on(keep), "tail": tail}

    @classmethod
    def taken_over(cls, record: dict[str, Any]) -> Self:
        """The pump that `handed_on` told of."""
        made = cls.__new__(cls)
        made._end, made._log = socket(fileno=record["end"]), AppLog.taken_over(record["log"])
        made._log.open()
        made._tail = record["tail"].encode("latin-1")
        return made

    def fileno(self) -> int:
        """The socket; -1 once it is closed."""
        return self._end.fileno()

    def pump(self) -> bool:
        """Copy what is there; False when the machine has gone."""
        try:
            data = self._end.recv(1 << 14)
        except ConnectionResetError:
            data = b""
        if not data:
            self.close()
            return False
        self._tail = (self._tail + data)[-_TAIL:]
        try:
            self._log.append(data)
        except OSError as e:
            print(f"the console's log can't be written: {e}", flush=True)
        return True

    def tail(self, lines: int = 15) -> str:
        """The last lines, fit to be shown; of a kernel that panicked those up to its trace."""
        shown = self._lines()
        last = next((number for number, line in enumerate(shown, 1) if _PANIC in line), len(shown))
        return "\n".join(shown[max(0, last - lines) : last])

    def reason(self, prefix: str) -> str | None:
        """Why the guest has ended, where its console says so.

        Args:
            prefix: what begins the line on which the guest's init says it.
        """
        for line in reversed(self._lines()):
            if _PANIC in line:
                return f"its kernel panicked: {line.partition(_PANIC)[2]}"
            if line.startswith(prefix):
                return line.removeprefix(prefix)
        return None

    def _lines(self) -> list[str]:
        text = self._tail.decode("utf-8", "replace").replace("\r", "")
        shown = "".join(c for c in text if c == "\n" or c.isprintable())
        return [line for line in shown.splitlines() if line.strip()]

    def close(self) -> None:
        """Close both ends."""
        if self._end.fileno() >= 0:
            self._end.close()
            self._log.close()


def path(pod_dir: str) -> str:
    """Path of the newer file."""
    return os.path.join(pod_dir, LOGS, NAME)


def read(pod_dir: str) -> list[bytes] | None:
    """Lines of a pod's console, the oldest first, without their ends; None: it has none."""
    from podium.records import read_bytes

    kept = []
    for name in (path(pod_dir) + OLDER, path(pod_dir)):
        try:
            kept.append(read_bytes(name, MAX_BYTES))
        except FileNotFoundError:
            pass  # not full yet, or just being put aside
    return [line.rstrip(b"\r") for line in b"".join(kept).removesuffix(b"\n").split(b"\n")] if kept else None
