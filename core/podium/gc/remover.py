"""A process that removes folders while its parent releases the next pods.

Removing is most of gc's work, and half of that is Python's: a thread would take turns with its caller at it.
"""

from __future__ import annotations

import os
from _socket import MSG_DONTWAIT, MSG_PEEK, socket, socketpair

from podium import errors
from podium.errors import PodiumError
from podium.linux.files import close_all_but
from podium.linux.procs import die_with_parent
from podium.linux.signals import signal
from podium.linux.tree import remove_tree
from podium.stage1.protocol import BrokenPeer, Channel


class Remover:
    """The caller's side. Folders are removed in the order in which they were given."""

    def __init__(self) -> None:
        """Start the process. It has none of the caller's descriptors: neither a pod's lock nor a worker's socket."""
        ours, theirs = socketpair()
        parent = os.getpid()
        self._pid = os.fork()
        if self._pid == 0:
            try:
                _serve(theirs.detach(), parent)
            finally:
                os._exit(0)
        theirs.close()
        self._channel = Channel(ours)

    def begin(self, parent: str, name: str) -> None:
        """Have `name` in the folder `parent` removed, see `remove_tree`; it fails if the process was killed."""
        try:
            self._channel.send({"parent": parent, "name": name})
        except BrokenPeer:
            pass  # `result` will tell

    def ready(self) -> bool:
        """Whether `result` need not wait."""
        try:
            return self._channel.pending or bool(self._channel.sock.recv(1, MSG_PEEK | MSG_DONTWAIT)) or True
        except BlockingIOError:
            return False
        except OSError:
            return True

    def result(self) -> PodiumError | OSError | None:
        """Wait for the next folder in turn: None, or what went wrong."""
        try:
            answer = self._channel.receive()
        except BrokenPeer:
            return PodiumError("the process that removes folders was killed", hint="run gc again")
        if "errno" in answer:
            return OSError(answer["errno"], answer["strerror"], answer["path"])
        return errors.from_json(answer["error"]) if "error" in answer else None

    def close(self) -> None:
        """End the process."""
        self._channel.close()
        os.waitpid(self._pid, 0)


def _serve(fd: int, parent: int) -> None:
    die_with_parent(signal.SIGKILL, parent)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # sent to all of a terminal's processes: the parent decides
    close_all_but({0, 1, 2, fd})
    channel = Channel(socket(fileno=fd))
    for request in channel.requests():
        error = removed(request["parent"], request["name"])
        if error is None:
            channel.send({})
        elif isinstance(error, PodiumError):
            channel.send({"error": error.to_json()})
        else:
            channel.send({"errno": error.errno, "strerror": error.strerror, "path": error.filename})


def removed(parent: str, name: str) -> PodiumError | OSError | None:
    """Remove `name` in the folder `parent`; returns what went wrong."""
    try:
        remove_tree(parent, name)
    except (PodiumError, OSError) as e:
        return e
    return None
