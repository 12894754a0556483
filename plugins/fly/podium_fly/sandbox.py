"""Fly's sandbox: a rootfs in the supervisor's own mount namespace, and nothing else."""

from __future__ import annotations

import os

from podium.linux import mount
from podium.linux.resolve import ensure_mountpoint, open_dir
from podium.sandbox import paths, rootfs, volumes
from podium.types import App, Pod

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any, Self

# Of the host, as rkt's fly has them (recursively: /dev/pts, /dev/shm, /sys/fs/cgroup are mounts of their own).
HOST_FOLDERS = ("/dev", "/proc", "/sys")
_HOST_FILES = ("/etc/resolv.conf", "/etc/hosts")


class FlySandbox:
    """See `podium.types.LastingSandbox`."""

    def __init__(self, pod: Pod) -> None:
        self._pod = pod

    @property
    def namespaces(self) -> Mapping[str, int]:
        """None: the app lives in the supervisor's."""
        return {}

    @property
    def default_capabilities(self) -> Sequence[str] | None:
        """All of podium's: fly is for software of the host that comes as an image."""
        return None

    @property
    def ptmx(self) -> str:
        """The host's."""
        return "/dev/ptmx"

    def root(self, app: App) -> str:
        """The app's rootfs."""
        return rootfs.path(self._pod, app)

    def handed_on(self, keep: Callable[[int], int]) -> Mapping[str, Any]:
        """Nothing: it is the supervisor's own mount namespace."""
        return {}

    @classmethod
    def taken_over(cls, pod: Pod, record: Mapping[str, Any]) -> Self:
        """See `podium.types.LastingSandbox`."""
        return cls(pod)

    def close(self) -> None:
        """It ends with the supervisor."""

    def make(self) -> None:
        """Mount everything, in a mount namespace of the supervisor's own that tells the host nothing."""
        mount.unshare_mounts()
        volumes.make_volumes(self._pod)
        for app in self._pod.apps:
            root = open_dir(rootfs.assemble(self._pod, app))
            try:
                self._fill(app, root)
            finally:
                os.close(root)

    def _fill(self, app: App, root: int) -> None:
        # Resolved while the image alone is there: nothing in it can then lead a mount point into the host's folders.
        places = [(source, True) for source in HOST_FOLDERS]
        places += [(source, False) for source in _HOST_FILES if os.path.exists(source)]
        targets = [ensure_mountpoint(root, source, is_dir) for source, is_dir in places]
        volumes.mount_volumes(self._pod, app, root)
        for (source, is_dir), target in zip(places, targets, strict=True):
            mount.bind(source, target, recursive=is_dir, read_only=not is_dir)
            os.close(target)
        paths.confine_paths(app, root)
