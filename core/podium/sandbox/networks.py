"""A running pod's networks, as its supervisor holds them."""

from __future__ import annotations

import os
from _socket import socket

from podium.linux import cgroup, procs
from podium.linux.signals import signal
from podium.pods.ledger import PodLedger
from podium.types import NetworkSetup, Pod

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Self

    from podium.net.plan import Plan
    from podium.types import Ledger


class Networks:
    """What a pod is in: the namespace, the ports held for it, and the way back to the host's mount namespace."""

    def __init__(self) -> None:
        self._setup: NetworkSetup | None = None
        self._host_mounts = -1
        self._group = ""

    def attach(self, pod: Pod, wanted: Plan, ledger: Ledger, group: str) -> NetworkSetup:
        """Put the pod into its networks. The caller is in the host's mount namespace.

        Raises:
            PodiumError: see `podium.net.attachment.attach`. What was made until then, `leave` takes down.
        """
        from podium.net.attachment import attach

        self._group = group
        cgroup.create(group, cgroup.tracking())
        self._host_mounts = os.open("/proc/self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
        self._setup = attach(pod, wanted, ledger, group)
        return self._setup

    def leave(self, pod: Pod) -> bool:
        """Take the pod out again, in a child that goes back to the host's mounts. What fails there is left to gc.

        Returns:
            Whether it was in networks, and is in none any more.
        """
        if self._host_mounts < 0:
            return False
        # In the pod's cgroup, where gc ends it. Where a forced stop does, it is done again, outside.
        ended = self._detached(pod, self._group)
        if os.WIFSIGNALED(ended):
            ended = self._detached(pod, None)
        os.close(self._host_mounts)
        self._host_mounts = -1
        if self._setup is not None:
            os.close(self._setup.netns_fd)
            for each in self._setup.reserved:
                each.close()
            self._setup = None
        return ended == 0

    def _detached(self, pod: Pod, group: str | None) -> int:
        """Let a child run DEL, in this cgroup (None: again, outside of it); returns its wait status."""
        from podium.linux import namespaces
        from podium.net.attachment import detach

        at, parent = cgroup.tracking(), os.getpid()
        pid = cgroup.fork(group, at) if group else os.fork()
        if pid:
            return os.waitpid(pid, 0)[1]
        code = 1
        try:
            signal.set_wakeup_fd(-1)
            procs.die_with_parent(signal.SIGKILL, parent)
            if group:
                cgroup.enter(group, at=at)
            namespaces.setns(self._host_mounts, namespaces.CLONE_NEWNS)
            detach(PodLedger(pod.dir), again=not group)
            code = 0
        except BaseException as e:
            os.write(2, f"the pod's networks are left to gc: {type(e).__name__}: {e}\n".encode())
        finally:
            os._exit(code)

    def handed_on(self, keep: Callable[[int], int]) -> dict[str, Any] | None:
        """See `podium.sandbox.stdio.AppLog.handed_on`."""
        if self._setup is None:
            return None
        return {
            "mounts": keep(self._host_mounts),
            "group": self._group,
            "netns": self._setup.netns,
            "netns_fd": keep(self._setup.netns_fd),
            "reserved": [keep(each.fileno()) for each in self._setup.reserved],
        }

    @classmethod
    def taken_over(cls, record: dict[str, Any] | None) -> Self:
        """What `handed_on` told of."""
        made = cls()
        if record is not None:
            made._host_mounts, made._group = record["mounts"], record["group"]
            made._setup = NetworkSetup(
                netns=record["netns"],
                netns_fd=record["netns_fd"],
                reserved=tuple(socket(fileno=fd) for fd in record["reserved"]),
            )
        return made
