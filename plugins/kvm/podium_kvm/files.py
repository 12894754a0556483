"""Where a pod's machine keeps its files, and its sockets among them, whose paths may be longer than unix(7) allows."""

from __future__ import annotations

import _socket
import os

from podium.types import Pod

_FOLDER = "vm"


def folder(pod: Pod) -> str:
    """Where the machine's files are."""
    return os.path.join(pod.stage1_dir, _FOLDER)


def connect(end: _socket.socket, folder: str, name: str) -> None:
    """Connect to the socket `name` in `folder`."""
    at = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        end.connect(f"/proc/self/fd/{at}/{name}")
    finally:
        os.close(at)


def listen(listening: _socket.socket, at: str, name: str) -> None:
    """Bind `listening` to the socket `name` in `at`."""
    fd = os.open(at, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        if os.path.lexists(os.path.join(at, name)):
            os.unlink(os.path.join(at, name))
        listening.bind(f"/proc/self/fd/{fd}/{name}")
        os.chmod(os.path.join(at, name), 0o600)
    finally:
        os.close(fd)
    listening.listen(8)
