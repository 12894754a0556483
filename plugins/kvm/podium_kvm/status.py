"""The port on which the guest tells of itself: that it has booted, and which apps say that they are ready."""

from __future__ import annotations

import _socket

from podium.types import Supervisor

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any, Self

_LONGEST = 1024  # bytes of a line; what a guest says in one that is longer is not listened to


class StatusPort:
    """A `podium.types.Pump` that reads what `guest/init` writes.

    Attributes:
        booted: it has said `boot`.
    """

    def __init__(self, end: _socket.socket) -> None:
        self.booted = False
        self._end = end
        self._supervisor: Supervisor
        self._rest = b""

    def served_by(self, supervisor: Supervisor) -> None:
        """Tell this supervisor, from now on."""
        self._supervisor = supervisor

    def handed_on(self, keep: Callable[[int], int]) -> dict[str, Any]:
        """See `podium.types.LastingSandbox`."""
        return {"end": keep(self._end.fileno()), "booted": self.booted, "rest": self._rest.decode("latin-1")}

    @classmethod
    def taken_over(cls, record: Mapping[str, Any]) -> Self:
        """See `podium.types.LastingSandbox`."""
        made = cls(_socket.socket(fileno=record["end"]))
        made.booted, made._rest = record["booted"], record["rest"].encode("latin-1")
        return made

    def fileno(self) -> int:
        """The socket; -1 once it is closed."""
        return self._end.fileno()

    def pump(self) -> bool:
        """Take in what is there; False when QEMU has gone."""
        try:
            data = self._end.recv(4096)
        except ConnectionResetError:
            data = b""
        if not data:
            self.close()
            return False
        *lines, rest = (self._rest + data).split(b"\n")
        self._rest = rest[:_LONGEST]
        for line in lines:
            words = line.decode("ascii", "replace").split()
            if not self.booted and words[:1] == ["boot"] and len(words) == 3 and words[2].isdecimal():
                self._supervisor.facts(guest_kernel=words[1], guest_memory_kib=int(words[2]))
                self.booted = True
            elif self.booted and words[:1] == ["ready"] and len(words) == 2:
                self._supervisor.ready(words[1])
        return True

    def close(self) -> None:
        """Close it."""
        if self._end.fileno() >= 0:
            self._end.close()
