"""The stage1 plugin `nspawn`: apps in a container that systemd-nspawn makes."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from typing import Any

from podium import sandbox
from podium.errors import BadInput
from podium.hookspecs import hookimpl
from podium.types import EnterRequest, Finding, Ledger, Pod, Stage1Info, StopRequest, Supervisor

VERSION = "0.1.0"
MAX_APPS = 20
KINDS = ("mnt", "pid", "ipc", "uts", "net")

CAPABILITIES = sandbox.CAPABILITIES | {"apps", "hostname", "network:host", "network:none", "isolator:sysctl"}


@hookimpl
def stage1_info() -> Stage1Info:
    """See `podium.hookspecs`."""
    return Stage1Info(name="nspawn", version=VERSION, capabilities=CAPABILITIES)


@hookimpl
def stage1_check() -> Sequence[Finding]:
    """See `podium.hookspecs`."""
    from podium.sandbox.check import common_findings

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
    ]


@hookimpl
def stage1_prepare(pod: Pod, ledger: Ledger) -> Any:
    """See `podium.hookspecs`."""
    from podium.sandbox import confine, paths, rootfs, volumes

    if len(pod.apps) > MAX_APPS:
        raise BadInput(f"nspawn runs at most {MAX_APPS} apps in a pod, this one has {len(pod.apps)}", subject=pod.uuid)
    if pod.network.names not in (("host",), ("none",)):
        raise BadInput(f"nspawn has the networks host and none, not {', '.join(pod.network.names)}", subject=pod.uuid)
    volumes.check_sources(pod)
    paths.check_sysctls(pod, own_network=pod.network.names != ("host",))
    overlay = True
    for app in pod.apps:
        confine.check(app)
        overlay = rootfs.prepare(pod, app) and overlay
    return {"overlay": overlay}


@hookimpl
def stage1_run(pod: Pod, supervisor: Supervisor) -> int:
    """See `podium.hookspecs`."""
    from podium_nspawn.sandbox import NspawnSandbox

    made = NspawnSandbox(pod, supervisor.make_cgroup())
    try:
        made.make()
        assert made.leader is not None
        supervisor.leader(made.leader)
        return supervisor.run_apps(made)
    finally:
        made.close()


@hookimpl
def stage1_enter(pod: Pod, request: EnterRequest) -> int:
    """See `podium.hookspecs`."""
    from podium.linux import namespaces
    from podium.sandbox import control

    process = control.running(pod, request.app)
    fds = namespaces.open_namespaces(process, KINDS)
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
    """nspawn takes the pod's cgroup and nothing else: all mounts and namespaces ended with its processes."""
    from podium.sandbox import control

    return control.release_cgroups(pod, ledger)
