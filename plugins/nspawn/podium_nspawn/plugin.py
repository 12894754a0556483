"""The stage1 plugin `nspawn`: apps in a container that systemd-nspawn makes."""

from __future__ import annotations

from podium import sandbox
from podium.errors import BadInput
from podium.hookspecs import hookimpl
from podium.types import EnterRequest, Finding, Ledger, Pod, Stage1Info, StopRequest, Supervisor

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

AHEAD = ("podium_nspawn.sandbox",)  # imported while podium prepares a pod that is to run at once
VERSION = "0.1.0"
MAX_APPS = 20

CAPABILITIES = sandbox.CAPABILITIES | {
    "apps",
    "hostname",
    "network:host",
    "network:none",
    "isolator:sysctl",
    "private-users",
    "network:cni",
    "ports",
    "dns",
}


@hookimpl
def stage1_info() -> Stage1Info:
    """See `podium.hookspecs`."""
    return Stage1Info(name="nspawn", version=VERSION, capabilities=CAPABILITIES)


@hookimpl
def stage1_check() -> Sequence[Finding]:
    """See `podium.hookspecs`."""
    import shutil
    import subprocess

    from podium.net.check import network_finding
    from podium.sandbox.check import chroot_finding, common_findings
    from podium_nspawn import machined

    nspawn = shutil.which("systemd-nspawn")
    version = ""
    if nspawn:
        done = subprocess.run(
            [nspawn, "--version"], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
        )
        version = done.stdout.partition("\n")[0]
    busybox = shutil.which("busybox")
    return [
        *common_findings(),
        chroot_finding(),
        Finding(
            name="systemd-nspawn",
            ok=nspawn is not None,
            message=version or "not found",
            hint="apt-get install systemd-container",
        ),
        Finding(
            name="busybox",
            ok=busybox is not None,
            message=busybox or "not found",
            hint="apt-get install busybox-static",
        ),
        network_finding(),
        machined.finding(),
    ]


@hookimpl
def stage1_prepare(pod: Pod, ledger: Ledger) -> Any:
    """See `podium.hookspecs`."""
    from podium.sandbox import confine, paths, rootfs, volumes
    from podium_nspawn import host

    if len(pod.apps) > MAX_APPS:
        raise BadInput(f"nspawn runs at most {MAX_APPS} apps in a pod, this one has {len(pod.apps)}", subject=pod.uuid)
    host.check(pod.apps)
    volumes.check_sources(pod)
    paths.check_sysctls(pod, own_network=pod.network.names != ("host",))
    overlay = True
    for app in pod.apps:
        confine.check(app)
        overlay = rootfs.prepare(pod, app) and overlay
    if pod.private_users:
        _check_users(pod, overlay)
    return {"overlay": overlay}


def _check_users(pod: Pod, overlay: bool) -> None:
    from podium.errors import HostLacks
    from podium.linux.idmap import can_map

    if not overlay or not all(can_map(app.rootfs) for app in pod.apps):
        raise HostLacks(
            f"--private-users: files in {pod.data_root} can't be seen with other owners",
            hint="it needs user namespaces, and a data directory on a file system with overlays and idmapped mounts "
            "(ext4, xfs or btrfs, Linux 5.19)",
            subject=pod.uuid,
        )


@hookimpl
def stage1_run(pod: Pod, supervisor: Supervisor) -> int:
    """See `podium.hookspecs`."""
    from podium_nspawn.sandbox import NspawnSandbox

    path, ids = supervisor.make_cgroup(), None
    if pod.private_users:
        from podium.sandbox import idrange

        ids = idrange.take(pod, supervisor.ledger)
    made = NspawnSandbox(pod, path, supervisor.network(), ids, register=_registered(pod))
    try:
        made.make()
        return supervisor.run_apps(made)
    finally:
        made.close()


def _registered(pod: Pod) -> bool:
    if not pod.settings.get("register"):
        return False
    from podium_nspawn import machined

    lacking = machined.lacking(pod.cgroup)
    if lacking:
        print(f"podium: the pod is not registered with systemd-machined: {lacking}", flush=True)
    return not lacking


@hookimpl
def stage1_enter(pod: Pod, request: EnterRequest) -> int:
    """See `podium.hookspecs`."""
    from podium.linux import namespaces
    from podium.sandbox import control
    from podium_nspawn.sandbox import kinds

    process = control.running(pod, request.app)
    fds = namespaces.open_namespaces(process, kinds(pod))
    try:
        return control.enter(pod, request, fds, ptmx=f"/proc/{process.pid}/root/dev/pts/ptmx")
    finally:
        namespaces.close_all(fds)


@hookimpl
def stage1_stop(pod: Pod, request: StopRequest) -> Any:
    """See `podium.hookspecs`."""
    from podium.sandbox import control

    return control.stop(pod, request)


@hookimpl
def stage1_gc(pod: Pod, ledger: Ledger) -> Any:
    """nspawn takes the pod's cgroup and perhaps a range of ids; all mounts and namespaces ended with its processes."""
    from podium.sandbox import control

    control.release_cgroups(pod, ledger)
    for resource in ledger.outstanding():
        if resource.kind == "ids":  # free with the last process of the pod
            ledger.released(resource.number, "plugin")
    return True
