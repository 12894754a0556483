"""The worker protocol, version 1: how podium calls plugin code in another process. Frozen.

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

A pin made today is driven by every later podium, so nothing here may change but by adding; docs/on-disk-format.md has
the text for those who read it without the code.

The worker is started with one end of a Unix stream socket. Each message is one JSON object on a line.

    request    {"v":1,"id":7,"hook":"gc","pod":"/…/pods/garbage/<uuid>","args":{…}}
    event      {"id":7,"event":"started","data":{…}}
    answer     {"id":7,"result":…}      or      {"id":7,"error":{"reason","message","hint","subject"}}

A worker that has served `run` can be asked for more if its answer has `"more":true`; else it ends.

Hooks: `load` (args name, entry; answers with the plugin's info), then those of `podium.hookspecs` without their prefix.
A worker serves requests one after another until the socket is closed. Descriptors are inherited and named by number in
the arguments.
"""

from __future__ import annotations

import select
from _socket import socket  # the module without the underscore makes enums of 400 constants at each start

from podium.quickjson import dumps, loads

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

VERSION = 1
MAX_MESSAGE = 1 << 20  # bytes


class BrokenPeer(Exception):
    """The other side closed the socket, or sent what is no message."""


class Channel:
    """One end of the socket."""

    def __init__(self, sock: socket) -> None:
        self.sock = sock
        self._buffer = b""

    def fileno(self) -> int:
        """The socket's descriptor."""
        return self.sock.fileno()

    @property
    def pending(self) -> bool:
        """A whole message was read already."""
        return b"\n" in self._buffer

    def asked(self) -> bool:
        """Whether something has come that `receive` has not given yet, be it the end."""
        poll = select.poll()
        poll.register(self.sock, select.POLLIN)
        return self.pending or bool(poll.poll(0))

    def send(self, message: dict[str, Any]) -> None:
        """Send one message. Raises BrokenPeer."""
        try:
            self.sock.sendall(dumps(message).encode() + b"\n")
        except OSError as e:
            raise BrokenPeer(f"the socket is closed: {e.strerror}") from None

    def receive(self, timeout: float | None = None) -> dict[str, Any]:
        """The next message.

        Args:
            timeout: seconds to wait; None waits for ever.

        Raises:
            TimeoutError: none came in time.
            BrokenPeer: the other side is gone, or sent what is no message.
        """
        while b"\n" not in self._buffer:
            if len(self._buffer) > MAX_MESSAGE:
                raise BrokenPeer("a message is too long")
            self.sock.settimeout(timeout)
            try:
                data = self.sock.recv(1 << 16)
            except TimeoutError:
                raise
            except OSError as e:
                raise BrokenPeer(f"the socket failed: {e.strerror}") from None
            finally:
                self.sock.settimeout(None)
            if not data:
                raise BrokenPeer("the socket was closed")
            self._buffer += data
        line, _, self._buffer = self._buffer.partition(b"\n")
        try:
            message = loads(line)
        except (ValueError, RecursionError):
            message = None
        if not isinstance(message, dict):
            raise BrokenPeer(f"{line[:80]!r} is no message")
        return message

    def requests(self) -> Iterator[dict[str, Any]]:
        """Requests until the other side closes the socket."""
        while True:
            try:
                yield self.receive()
            except BrokenPeer:
                return

    def close(self) -> None:
        """Close this end."""
        self.sock.close()
