"""sd_notify(3): podium tells its service manager that the pod is ready, and passes READY on from apps that ask for it.

An app that asks is given a socket in its own rootfs, so that it works in any network namespace.
"""

from __future__ import annotations

import os
from _socket import socket  # the module without the underscore is too much for a supervisor that waits

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Self

    from podium.types import App, Pod

_FOLDER, _NAME = "/run", "podium-notify"
APP_SOCKET = f"{_FOLDER}/{_NAME}"  # NOTIFY_SOCKET of an app
_MAX = 4096  # bytes of a datagram


class Readiness:
    """What the service manager is told of a pod, once: READY, when every app was started and who asks for it is ready.

    Args:
        address: NOTIFY_SOCKET of podium; empty: nobody is told.
    """

    def __init__(self, address: str) -> None:
        self._manager: socket | None = _connect(address) if address else None
        self._started = False
        self._apps: list[socket] = []
        self._far: set[str] = set()

    def expect(self, app: str) -> None:
        """Wait for an app of a remote sandbox, which tells of it with `ready`."""
        self._far.add(app)

    def ready(self, app: str) -> None:
        """An app of a remote sandbox has said that it is ready."""
        self._far.discard(app)
        self._tell()

    def listen(self, pod: Pod, app: App) -> None:
        """Make an app's socket, in its assembled rootfs.

        Raises:
            Failed: it can't be made there.
        """
        from _socket import AF_UNIX, SOCK_CLOEXEC, SOCK_DGRAM, SOCK_NONBLOCK

        from podium.errors import Failed
        from podium.linux.resolve import make_dirs_in_root, open_dir
        from podium.sandbox import rootfs

        sock = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK)
        try:
            root = open_dir(rootfs.path(pod, app))
            try:
                folder = make_dirs_in_root(root, _FOLDER)
            finally:
                os.close(root)
            try:
                path = f"/proc/self/fd/{folder}/{_NAME}"
                if os.path.lexists(path):
                    os.unlink(path)
                sock.bind(path)
                os.chmod(path, 0o666)  # any user of the app's
            finally:
                os.close(folder)
        except OSError as e:
            sock.close()
            raise Failed(
                f"app {app.name!r} can't be given a socket at {APP_SOCKET}: {e.strerror}",
                hint=f"mount a volume on {_FOLDER}, or do without --notify",
                subject=app.name,
            ) from None
        self._apps.append(sock)

    def handed_on(self, keep: Callable[[int], int]) -> dict[str, Any]:
        """See `podium.sandbox.stdio.AppLog.handed_on`."""
        manager = None if self._manager is None else keep(self._manager.fileno())
        apps = [keep(sock.fileno()) for sock in self._apps]
        return {"manager": manager, "started": self._started, "apps": apps, "far": sorted(self._far)}

    @classmethod
    def taken_over(cls, record: dict[str, Any]) -> Self:
        """What `handed_on` told of."""
        made = cls("")
        made._manager = None if record["manager"] is None else socket(fileno=record["manager"])
        made._started, made._apps = record["started"], [socket(fileno=fd) for fd in record["apps"]]
        made._far = set(record["far"])
        return made

    def filenos(self) -> list[int]:
        """Descriptors of apps that are not ready yet."""
        return [sock.fileno() for sock in self._apps]

    def receive(self, fd: int) -> None:
        """Take in what an app says."""
        for sock in [s for s in self._apps if s.fileno() == fd]:
            try:
                said = sock.recv(_MAX).split(b"\n")
            except BlockingIOError:
                continue
            if b"READY=1" in said:
                self._apps.remove(sock)
                sock.close()
        self._tell()

    def started(self) -> None:
        """Every app was started."""
        self._started = True
        self._tell()

    def _tell(self) -> None:
        if self._manager is None or not self._started or self._apps or self._far:
            return
        manager, self._manager = self._manager, None
        try:
            manager.send(b"READY=1\n")
        except OSError as e:
            print(f"the service manager can't be told that the pod is ready: {e}", flush=True)
        manager.close()

    def close(self) -> None:
        """Close what is still open."""
        for sock in (*self._apps, *((self._manager,) if self._manager else ())):
            sock.close()
        self._apps, self._manager = [], None


def _connect(address: str) -> socket | None:
    """Early: the stage1 may leave the mount namespace in which the address is a path."""
    from _socket import AF_UNIX, SOCK_CLOEXEC, SOCK_DGRAM

    sock = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC)
    try:
        sock.connect("\0" + address[1:] if address.startswith("@") else address)
    except OSError as e:
        print(f"the service manager at {address} can't be reached: {e}", flush=True)
        sock.close()
        return None
    return sock
