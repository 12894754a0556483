"""From what a pod asks (`Isolators`) to what a process is given (`Launch`, cgroup limits)."""

from __future__ import annotations

import os

from podium.errors import HostLacks
from podium.linux import caps, cgroup, seccomp
from podium.linux.resolve import open_in_root
from podium.sandbox import rootfs
from podium.sandbox.launch import DEFAULT_PATH, Launch
from podium.sandbox.notify import APP_SOCKET
from podium.sandbox.users import identify
from podium.types import (
    App,
    Isolators,
    LastingRemoteSandbox,
    LastingSandbox,
    Pod,
    RemoteSandbox,
    Sandbox,
    UnfinishedSandbox,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence


def launch_of(pod: Pod, app: App, sandbox: Sandbox) -> Launch:
    """How the app is started, with everything looked up in its own rootfs.

    Raises:
        BadInput: its image lacks the user or group, or names an unknown capability or system call.
    """
    far = remote(sandbox) is not None
    root = os.open(app.rootfs if far else rootfs.path(pod, app), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        owner = sandbox_ids(sandbox)
        who = identify(root, app.user, app.group, app.supplementary_gids, owner)
        if not far:  # else the shared tree is all there is to look at
            _make_working_dir(root, app.working_dir, owner)
    finally:
        os.close(root)
    environment = {"PATH": DEFAULT_PATH, "HOME": who.home, "AC_APP_NAME": app.name, **app.environment}
    if app.notify:
        environment["NOTIFY_SOCKET"] = APP_SOCKET
    iso = app.isolators
    return Launch(
        argv=app.exec,
        environment=environment,
        cwd=app.working_dir,
        root=sandbox.root(app),
        uid=who.uid,
        gid=who.gid,
        groups=who.groups,
        capabilities=_capabilities(iso, sandbox.default_capabilities),
        no_new_privileges=iso.no_new_privileges,
        seccomp=_filter(iso),
        rlimits=dict(iso.rlimits),
        oom_score_adj=iso.oom_score_adj,
        cgroup=f"{pod.cgroup}/{app.name}",
    )


def remote(sandbox: Sandbox) -> RemoteSandbox | None:
    """The sandbox, if its apps are no processes of this host."""
    return sandbox if hasattr(sandbox, "start") else None  # type: ignore[return-value]


def unfinished(sandbox: Sandbox) -> UnfinishedSandbox | None:
    """The sandbox, if it is still being made."""
    return sandbox if hasattr(sandbox, "finish") else None  # type: ignore[return-value]


def lasting(sandbox: Sandbox | None) -> LastingSandbox | None:
    """The sandbox, if it can be handed on."""
    whole = sandbox is not None and (remote(sandbox) is None or lasting_remote(sandbox) is not None)
    return sandbox if whole and hasattr(sandbox, "handed_on") else None  # type: ignore[return-value]


def lasting_remote(sandbox: Sandbox) -> LastingRemoteSandbox | None:
    """The sandbox, if its apps are no processes of this host and it can be handed on."""
    return sandbox if hasattr(sandbox, "served_by") else None  # type: ignore[return-value]


def check(app: App) -> None:
    """Refuse at prepare what a run would refuse: users, capabilities, system calls, limits.

    Raises:
        BadInput: the image lacks the user or group, or a name is unknown.
        HostLacks: a limit's controller is not there.
    """
    root = os.open(app.rootfs, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        identify(root, app.user, app.group, app.supplementary_gids)
    finally:
        os.close(root)
    iso = app.isolators
    _capabilities(iso, None)
    _filter(iso)
    limits = limits_of(iso, app.rootfs)
    lacking = cgroup.missing(limits) if limits else []
    if lacking:
        raise HostLacks(
            f"app {app.name!r}: this host has no cgroup controller for {', '.join(lacking)}",
            hint="enable it on the kernel's command line, or do without the limit",
            subject=app.name,
        )


def sandbox_ids(sandbox: Sandbox) -> int:
    """What 0 in the sandbox is on the host; 0 for one of a plugin that knows no user namespaces."""
    return int(getattr(sandbox, "ids", 0))


def _make_working_dir(root: int, path: str, owner: int) -> None:
    """As OCI runtimes do: a working folder that the image lacks is made."""
    from podium.linux.resolve import make_dirs_in_root

    try:
        os.close(open_in_root(root, path, os.O_PATH | os.O_CLOEXEC))
    except FileNotFoundError:
        try:
            made = make_dirs_in_root(root, path, 0o755)
            os.chown(f"/proc/self/fd/{made}", owner, owner)
            os.close(made)
        except OSError:
            return  # a read-only rootfs: the app's start names the folder


def _filter(iso: Isolators) -> bytes | None:
    asked = iso.seccomp
    return None if asked is None else seccomp.build_filter(asked.mode, asked.names, asked.errno)


def _capabilities(iso: Isolators, default: Sequence[str] | None) -> tuple[int, ...]:
    """What the app keeps; never more than the supervisor has, so that `enter` from a mightier caller has no more."""
    bounding = caps.current()["bounding"]
    kept = bounding if default is None else caps.parse(default)
    if iso.caps_retain is not None:
        kept = caps.parse(iso.caps_retain)
    elif iso.caps_remove is not None:
        kept = kept - caps.parse(iso.caps_remove)
    return tuple(sorted(kept & bounding))


def limits_of(iso: Isolators, folder: str) -> cgroup.Limits | None:
    """The cgroup's share of the isolators; None when none is asked for.

    Args:
        iso: what is asked for.
        folder: anything in the data directory, whose disk is the one that block limits are about.

    Raises:
        HostLacks: a block limit is asked for, and the data directory is on no disk.
    """
    limits = cgroup.Limits(
        memory_max=iso.memory_limit,
        memory_low=iso.memory_request,
        cpu_millis=iso.cpu_limit,
        cpu_shares=iso.cpu_shares if iso.cpu_shares is not None else _shares(iso.cpu_request),
        pids_max=iso.pids,
        io=_io(iso, folder),
    )
    return limits if limits != cgroup.Limits() else None


def _io(iso: Isolators, folder: str) -> tuple[cgroup.IoLimit, ...]:
    """The limits count for reading and for writing alike, each by itself, on the disk that has the apps' files."""
    if (iso.block_bandwidth, iso.block_iops) == (None, None):
        return ()
    from podium.linux.disks import whole_disk

    disk = whole_disk(folder)
    if disk is None:
        raise HostLacks(
            f"block limits are those of a disk, and {folder} is on none",
            hint="have the data directory on a disk, or do without the limit",
            subject="io",
        )
    bandwidth, iops = iso.block_bandwidth, iso.block_iops
    return (cgroup.IoLimit(disk, read_bps=bandwidth, write_bps=bandwidth, read_iops=iops, write_iops=iops),)


def _shares(cpu_request: int | None) -> int | None:
    """A request in millicores as a weight: one core is the kernel's default of 1024."""
    return None if cpu_request is None else max(2, cpu_request * 1024 // 1000)
