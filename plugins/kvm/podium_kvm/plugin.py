"""The stage1 plugin `kvm`: apps in a virtual machine that QEMU runs."""

from __future__ import annotations

from podium import sandbox
from podium.errors import BadInput
from podium.hookspecs import hookimpl
from podium.types import EnterRequest, Finding, Ledger, Pod, Stage1Info, StopRequest, Supervisor

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

VERSION = "0.1.0"
AHEAD = ("podium_kvm.making",)  # imported while podium prepares a pod that is to run at once
MAX_APPS = 8

_NO_BLOCK_LIMIT = "volumes are no disks of the guest, so a limit there would not hold for them"
LACKS = {
    "isolator:block-bandwidth": _NO_BLOCK_LIMIT,
    "isolator:block-iops": _NO_BLOCK_LIMIT,
    "network:host": "a virtual machine has a network stack of its own",
    "private-users": "the guest's users are none of the host's, whose QEMU runs as a user of its own for each pod",
}
CAPABILITIES = (sandbox.CAPABILITIES - LACKS.keys()) | {
    *("apps", "hostname", "network:none", "network:cni", "ports", "dns", "isolator:sysctl"),
}


@hookimpl
def stage1_info() -> Stage1Info:
    """See `podium.hookspecs`."""
    return Stage1Info(name="kvm", version=VERSION, capabilities=CAPABILITIES, reasons=LACKS)


@hookimpl
def stage1_check(settings: Mapping[str, Any]) -> Sequence[Finding]:
    """See `podium.hookspecs`."""
    from podium.net.check import network_finding
    from podium.sandbox.check import common_findings
    from podium_kvm.check import findings

    return [*common_findings(), *findings(settings), network_finding()]


@hookimpl
def stage1_prepare(pod: Pod, ledger: Ledger) -> Any:
    """See `podium.hookspecs`."""
    from podium.sandbox import confine
    from podium_kvm import making, sharing

    if len(pod.apps) > MAX_APPS:
        raise BadInput(f"kvm runs at most {MAX_APPS} apps in a pod, this one has {len(pod.apps)}", subject=pod.uuid)
    for app in pod.apps:
        confine.check(app)
    sharing.check(pod)
    making.prepare(pod)
    return True


@hookimpl
def stage1_run(pod: Pod, supervisor: Supervisor) -> int:
    """See `podium.hookspecs`."""
    from podium_kvm import making

    supervisor.make_cgroup()
    made = making.start(pod, supervisor)
    try:
        return supervisor.run_apps(made)
    finally:
        made.close()


@hookimpl
def stage1_enter(pod: Pod, request: EnterRequest) -> int:
    """See `podium.hookspecs`."""
    from podium_kvm.enter import enter

    return enter(pod, request)


@hookimpl
def stage1_stop(pod: Pod, request: StopRequest) -> Any:
    """See `podium.hookspecs`."""
    from podium.sandbox import control

    return control.stop(pod, request)


@hookimpl
def stage1_gc(pod: Pod, ledger: Ledger) -> Any:
    """kvm takes the pod's cgroup and nothing else: QEMU and all relays are in it, all files in the pod's folder."""
    from podium.sandbox import control

    return control.release_cgroups(pod, ledger)
