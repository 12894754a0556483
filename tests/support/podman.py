"""podman on a storage of its own, as the other engine that images come from and go to."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess

_TIMEOUT = 120.0  # seconds
# crun takes no hierarchy of version 2 that has controllers beside those of version 1; the namespace is podman's own.
_ALONE = "mountpoint -q /sys/fs/cgroup/unified && umount -l /sys/fs/cgroup/unified; exec "


class Podman:
    """podman, which keeps all that it writes below `folder`."""

    def __init__(self, folder: str) -> None:
        self.folder = folder
        os.makedirs(folder)
        self._argv = ["podman", "--root", f"{folder}/root", "--runroot", f"{folder}/run", "--storage-driver", "vfs"]
        self._argv += ["--cgroup-manager", "cgroupfs"]

    def __call__(self, *args: str) -> str:
        """Run it; what it prints on standard output."""
        alone = ["unshare", "--mount", "sh", "-c", _ALONE + shlex.join([*self._argv, *args])]
        done = subprocess.run(
            alone, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_TIMEOUT, check=False
        )
        assert done.returncode == 0, f"podman {' '.join(args)}: {done.stderr}"
        return done.stdout

    def run(self, image: str, *command: str) -> str:
        """What a container prints; without network, cgroup and more limits than we may set ourselves."""
        limits = ("--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1024:1024")
        return self("run", "--rm", "--network", "none", "--cgroups=disabled", *limits, image, *command)

    def close(self) -> None:
        """Remove its storage."""
        shutil.rmtree(self.folder)
