"""The command line of systemd-nspawn: a pure function of the pod. See systemd-nspawn(1)."""

from __future__ import annotations

from podium.net.files import hostname
from podium.sandbox.idrange import COUNT, IdRange
from podium.types import Pod

PLACEHOLDER = "/usr/bin/busybox"
STAGE2 = "/opt/stage2"

# The lock and the unix-export folder of /run/systemd/nspawn are not needed, a tmpfs on /tmp is the apps' own business,
# and each app has a system call filter of its own (nspawn's costs 25 ms of CPU).
ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "SYSTEMD_NSPAWN_LOCK": "0",
    "SYSTEMD_NSPAWN_TMPFS_TMP": "0",
    "SYSTEMD_SECCOMP": "0",
}


def arguments(
    pod: Pod, root: str, netns: str | None = None, ids: IdRange | None = None, *, register: bool = False
) -> list[str]:
    """argv that makes the sandbox around `root`, with a placeholder as its only process, in `netns` and `ids`.

    The placeholder reads standard input, to whose end it ends, and with it every process in the sandbox.

    Args:
        register: make it known to systemd-machined. It stays in the pod's cgroup: a scope of machined's own would
            take the placeholder out of it.
    """
    private = [f"--network-namespace-path={netns}"] if netns else []
    private += ["--private-network"] if pod.network.names == ("none",) else []
    users = []
    if ids is not None:  # everything in it is owned as it has to be already
        users = [f"--private-users={ids.base}:{COUNT}", "--private-users-ownership=off"]
    return [
        "systemd-nspawn",
        "--quiet",
        f"--register={'yes' if register else 'no'}",
        "--keep-unit",
        "--as-pid2",
        "--console=pipe",
        "--link-journal=no",
        "--resolv-conf=off",
        "--timezone=off",
        f"--machine=podium-{pod.uuid}",
        f"--hostname={hostname(pod)}",
        f"--uuid={pod.uuid.replace('-', '')}",
        *private,
        *users,
        f"--directory={root}",
        PLACEHOLDER,
        "cat",
    ]


def app_root(app: str) -> str:
    """Where an app's rootfs is inside the sandbox."""
    return f"{STAGE2}/{app}/rootfs"
