"""The guest's console: copied to a file of bounded size in the pod's logs."""

from __future__ import annotations

import os
import socket

from podium.sandbox.stdio import LOGS

NAME = "_console"  # no app's name: those have no underscore
MAX = 1 << 18  # bytes of a file; there are at most two
_TAIL = 4096


class ConsolePump:
    """Copies what the guest prints on its console to the pod's logs/_console; the older half is in logs/_console.1.

    A guest can print for ever; what it costs is twice 256 KiB.
    """

    def __init__(self, pod_dir: str, end: socket.socket) -> None:
        folder = os.path.join(pod_dir, LOGS)
        os.makedirs(folder, mode=0o700, exist_ok=True)
        self._path = os.path.join(folder, NAME)
        self._end = end
        self._file = self._open()
        self._size = 0
        self._tail = b""

    def _open(self) -> int:
        return os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)

    def fileno(self) -> int:
        """The socket; -1 once it is closed."""
        return self._end.fileno()

    def pump(self) -> bool:
        """Copy what is there; False when QEMU has gone."""
        try:
            data = self._end.recv(1 << 14)
        except ConnectionResetError:
            data = b""
        if not data:
            self.close()
            return False
        self._tail = (self._tail + data)[-_TAIL:]
        if self._size + len(data) > MAX:
            os.close(self._file)
            os.rename(self._path, self._path + ".1")
            self._file, self._size = self._open(), 0
        self._size += len(data)
        try:
            os.write(self._file, data)
        except OSError as e:
            print(f"the console's log can't be written: {e}", flush=True)
        return True

    def tail(self, lines: int = 15) -> str:
        """The last lines, fit to be shown."""
        text = self._tail.decode("utf-8", "replace").replace("\r", "")
        shown = "".join(c for c in text if c == "\n" or c.isprintable())
        return "\n".join([line for line in shown.splitlines() if line.strip()][-lines:])

    def close(self) -> None:
        """Close both ends."""
        if self._end.fileno() >= 0:
            self._end.close()
            os.close(self._file)
