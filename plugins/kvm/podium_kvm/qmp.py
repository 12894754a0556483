"""A client of the QEMU Machine Protocol, as much of it as is used: commands one by one, events passed over."""

from __future__ import annotations

import json
import socket
from collections.abc import Mapping, Sequence
from typing import Any

from podium.errors import Failed, WrongState
from podium_kvm.files import connect

_TIMEOUT = 10.0  # seconds


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
        return self.commands([(name, arguments)], fds)[0]

    def commands(
        self, wanted: Sequence[tuple[str, Mapping[str, Any]]], fds: Sequence[int] = (), *, tolerant: bool = False
    ) -> list[Any]:
        """Execute commands with their arguments, one after the other; returns what each returned.

        They are sent at once: a round trip costs about a millisecond.

        Args:
            wanted: names and arguments.
            fds: descriptors that go with the first.
            tolerant: one that is refused returns None.

        Raises:
            Failed: QEMU refused one, the first of which is named, or did not answer in time.
        """
        sent = b"".join(_encode({"execute": name, "arguments": arguments}) for name, arguments in wanted)
        found, refused = [], ""
        try:
            if fds:
                socket.send_fds(self._socket, [sent], list(fds))
            else:
                self._socket.sendall(sent)
            for name, _ in wanted:
                answer = self._answer()
                if "error" in answer and not tolerant:
                    refused = refused or f"QEMU refused {name}: {answer['error'].get('desc')}"
                found.append(answer.get("return"))
        except OSError as e:
            raise Failed(f"QEMU did not answer {name}: {e}") from None
        if refused:
            raise Failed(refused)
        return found

    def _answer(self) -> dict[str, Any]:
        """The next that is no event."""
        while True:
            answer = self._receive()
            if "return" in answer or "error" in answer:
                return answer

    def _receive(self) -> dict[str, Any]:
        while b"\n" not in self._rest:
            data = self._socket.recv(1 << 16)
            if not data:
                raise OSError("it closed the connection")
            self._rest += data
        line, _, self._rest = self._rest.partition(b"\n")
        answer: dict[str, Any] = json.loads(line)
        return answer


def _encode(message: dict[str, Any]) -> bytes:
    return json.dumps(message, separators=(",", ":")).encode()  # QEMU reads it byte by byte
