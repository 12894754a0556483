"""A client of the QEMU Machine Protocol, as much of it as is used: commands one by one, events passed over."""

from __future__ import annotations

import _socket
import struct

from podium.errors import Failed, WrongState
from podium.types import Record
from podium_kvm.files import connect

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

_TIMEOUT = 10.0  # seconds


class Command(Record):
    """One to be executed.

    Attributes:
        name: of it.
        arguments: numbers and names that need no escape in JSON, or tables of those.
        fd: the descriptor that goes with it; -1: none.
    """

    name: str
    arguments: Mapping[str, Any] = {}
    fd: int = -1


class Qmp:
    """A connection; QEMU serves one at a time, so it is to be short."""

    def __init__(self, folder: str, name: str = "qmp") -> None:
        """Connect to the socket `name` in `folder`.

        Raises:
            WrongState: nobody listens there.
        """
        self._socket = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM | _socket.SOCK_CLOEXEC)
        self._socket.settimeout(_TIMEOUT)
        try:
            connect(self._socket, folder, name)
        except OSError as e:
            self._socket.close()
            raise WrongState(f"the virtual machine can't be reached: {e.strerror}", subject=folder) from None
        self._rest = b""
        self._first = [Command(name="qmp_capabilities")]  # goes with what is executed first

    def __enter__(self) -> Qmp:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def commands(self, wanted: Sequence[Command], *, tolerant: bool = False) -> list[Any]:
        """Execute commands, one after the other; returns what each returned.

        They are sent without waiting for answers: QEMU reads on only when it has executed what it has read, and a round
        trip costs about a millisecond.

        Args:
            wanted: what to execute.
            tolerant: one that is refused returns None.

        Raises:
            Failed: QEMU refused one, the first of which is named, or did not answer in time.
        """
        first, self._first = self._first, []
        found, refused = [], ""
        try:
            for command in (*first, *wanted):
                self._send(command)
            for _ in first:
                self._answer()
            for command in wanted:
                answer = self._answer()
                if "error" in answer and not tolerant:
                    refused = refused or f"QEMU refused {command.name}: {answer['error'].get('desc')}"
                found.append(answer.get("return"))
        except OSError as e:
            raise Failed(f"QEMU did not answer: {e}") from None
        if refused:
            raise Failed(refused)
        return found

    def _send(self, command: Command) -> None:
        sent = _json({"execute": command.name, "arguments": command.arguments}).encode()
        if command.fd < 0:
            self._socket.sendall(sent)
        else:
            rights = (_socket.SOL_SOCKET, _socket.SCM_RIGHTS, struct.pack("i", command.fd))
            self._socket.sendmsg([sent], [rights])

    def _answer(self) -> dict[str, Any]:
        """The next that is neither the greeting nor an event."""
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
        import json  # takes as long as QEMU does to answer

        answer: dict[str, Any] = json.loads(line)
        return answer


def _json(value: Any) -> str:
    """As short as can be: QEMU reads it byte by byte."""
    if isinstance(value, dict):
        return "{" + ",".join(f'"{name}":{_json(each)}' for name, each in value.items()) + "}"
    return f'"{value}"' if isinstance(value, str) else str(value).lower()
