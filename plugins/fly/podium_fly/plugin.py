"""The stage1 plugin `fly`: one app, chrooted, with the host's network, processes and IPC (as rkt's fly)."""

from __future__ import annotations

from podium import sandbox
from podium.errors import BadInput, CapabilityUnsupported
from podium.hookspecs import hookimpl
from podium.types import EnterRequest, Finding, Ledger, Pod, Stage1Info, StopRequest, Supervisor

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

AHEAD = ("podium_fly.sandbox",)  # imported while podium prepares a pod that is to run at once
VERSION = "0.1.0"

CAPABILITIES = sandbox.CAPABILITIES | {"network:host"}


@hookimpl
def stage1_info() -> Stage1Info:
    """See `podium.hookspecs`."""
    return Stage1Info(name="fly", version=VERSION, capabilities=CAPABILITIES)


@hookimpl
def stage1_check() -> Sequence[Finding]:
    """See `podium.hookspecs`."""
    from podium.sandbox.check import common_findings

    return common_findings()


@hookimpl
def stage1_prepare(pod: Pod, ledger: Ledger) -> Any:
    """See `podium.hookspecs`."""
    from podium.sandbox import confine, rootfs, volumes
    from podium_fly.sandbox import HOST_FOLDERS

    if len(pod.apps) != 1:
        raise CapabilityUnsupported(
            f"fly runs one app, this pod has {len(pod.apps)}: {', '.join(a.name for a in pod.apps)}",
            hint="use --stage1 nspawn for pods of several apps",
            subject=pod.uuid,
        )
    if pod.network.names != ("host",):
        raise BadInput(f"fly has the host's network only, not {', '.join(pod.network.names)}", hint="use --net host")
    (app,) = pod.apps
    for m in app.mounts:
        if m.target.startswith(tuple(f"{folder}/" for folder in HOST_FOLDERS)) or m.target in HOST_FOLDERS:
            raise BadInput(f"fly shows the host's own {m.target}, no volume can be mounted there", subject=m.target)
    confine.check(app)
    volumes.check_sources(pod)
    if rootfs.prepare(pod, app):
        return {"overlay": True, "notes": []}
    note = f"{pod.data_root} is on a file system that carries no overlay: the rootfs of {app.name} was copied"
    return {"overlay": False, "notes": [note]}


@hookimpl
def stage1_run(pod: Pod, supervisor: Supervisor) -> int:
    """See `podium.hookspecs`."""
    from podium_fly.sandbox import FlySandbox

    made = FlySandbox(pod)
    made.make()
    return supervisor.run_apps(made)


@hookimpl
def stage1_enter(pod: Pod, request: EnterRequest) -> int:
    """See `podium.hookspecs`."""
    from podium.linux import namespaces
    from podium.sandbox import control

    leader = control.running(pod, request.app)
    fds = namespaces.open_namespaces(leader, ("mnt",))
    try:
        return control.enter(pod, request, fds)
    finally:
        namespaces.close_all(fds)


@hookimpl
def stage1_stop(pod: Pod, request: StopRequest) -> Any:
    """See `podium.hookspecs`."""
    from podium.sandbox import control

    return control.stop(pod, request)


@hookimpl
def stage1_gc(pod: Pod, ledger: Ledger) -> Any:
    """Fly takes nothing but the pod's cgroup: its mounts ended with the supervisor's mount namespace."""
    from podium.sandbox import control

    return control.release_cgroups(pod, ledger)
