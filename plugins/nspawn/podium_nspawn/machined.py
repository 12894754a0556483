"""Whether systemd-machined can know a pod (machinectl(1)), and what keeps it from that.

Its RegisterMachine wants a leader that is in a systemd unit (org.freedesktop.machine1(5)). A scope that machined makes,
the other way, would take nspawn's placeholder out of the pod's cgroup, where everything of a pod has to be.
"""

from __future__ import annotations

import os

from podium.types import Finding

_BOOTED = "/run/systemd/system"  # sd_booted(3)
_BUS = "/run/dbus/system_bus_socket"
_SERVICE = "share/dbus-1/system-services/org.freedesktop.machine1.service"
_UNITS = (".service", ".scope")


def unit(cgroup: str) -> str | None:
    """The unit that a cgroup is in, as systemd reads the path: the first part that is no slice, if it is one."""
    for part in cgroup.split("/"):
        if not part.endswith(".slice"):
            return part if part.endswith(_UNITS) and part not in _UNITS else None
    return None


def lacking(cgroup: str) -> str:
    """What keeps a pod with this cgroup from being registered; empty: nothing."""
    missing = _host_lacks()
    if missing:
        return missing
    if unit(cgroup) is None:
        return f"its cgroup {cgroup} is in no systemd unit (cgroup.parent in the configuration)"
    return ""


def finding() -> Finding:
    """For `stage1 check`."""
    missing = _host_lacks()
    return Finding(
        name="machined",
        ok=not missing,
        required=False,
        message=missing or "pods can be registered (nspawn.register in the configuration)",
        hint="only for machinectl: a host with systemd as its init, apt-get install dbus systemd-container",
    )


def _host_lacks() -> str:
    if not os.path.isdir(_BOOTED):
        return "systemd is not this host's init"
    if not os.path.exists(_BUS):
        return f"there is no D-Bus system bus ({_BUS})"
    if not any(os.path.exists(f"{prefix}/{_SERVICE}") for prefix in ("/usr", "/usr/local")):
        return "systemd-machined is not installed"
    return ""
