"""A client of the QEMU Machine Protocol, as much of it as is used: commands one by one, events passed over."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Sequence
from typing import Any

from podium.errors import Failed, WrongState

_TIMEOUT = 10.0  # seconds


def connect(end: socket.socket, folder: str, name: str) -> None:
    """Connect to the socket `name` in `folder`, whose path may be longer than unix(7) allows."""
    at = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        end.connect(f"/proc/self/fd/{at}/{name}")
    finally:
        os.close(at)


class Qmp:
    """A connection; QEMU serves one at a time, so it is to be short."""

    def __init__(self, folder: str, name: str = "qmp") -> None:
        """Connect to the socket `name` in `folder`.

        Raises:
            WrongState: nobody listens there.
        """
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        self._socket.settimeout(_TIMEOUT)
        try:
            connect(self._socket, folder, name)
        except OSError as e:
            self._socket.close()
            raise WrongState(f"the virtual machine can't be reached: {e.strerror}", subject=folder) from None
        self._rest = b""
        self._receive()
        self.command("qmp_capabilities")

    def __enter__(self) -> Qmp:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def command(self, name: str, /, fds: Sequence[int] = (), **arguments: Any) -> Any:
        """Execute a command; returns what it returned.

        Raises:
            Failed: QEMU refused, or did not answer in time.
        """
        message = json.dumps({"execute": name, "arguments": arguments}).encode()
        try:
            if fds:
                socket.send_fds(self._socket, [message], list(fds))
            else:
                self._socket.sendall(message)
            while True:
                answer = self._receive()
                if "return" in answer:
                    return answer["return"]
                if "error" in answer:
                    raise Failed(f"QEMU refused {name}: {answer['error'].get('desc')}")
        except OSError as e:
            raise Failed(f"QEMU did not answer {name}: {e}") from None

    def _receive(self) -> dict[str, Any]:
        while b"\n" not in self._rest:
            data = self._socket.recv(1 << 16)
            if not data:
                raise OSError("it closed the connection")
            self._rest += data
        line, _, self._rest = self._rest.partition(b"\n")
        answer: dict[str, Any] = json.loads(line)
        return answer
