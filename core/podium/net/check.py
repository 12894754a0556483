"""What a stage1 with networks tells of the host in `podium stage1 check`."""

from __future__ import annotations

from podium.config import DEFAULTS
from podium.net import cni, rules
from podium.types import Finding

_WANTED = ("bridge", "host-local", "portmap")


def network_finding() -> Finding:
    """Whether the CNI plugins of the network `default` are where they are looked for unless configured otherwise."""
    folders = DEFAULTS["net"]["plugin-dirs"]
    missing = [type for type in _WANTED if cni.find(type, folders) is None]
    found = f"{', '.join(missing)} not found in {', '.join(folders)}: podium makes the bridge of `default` itself"
    return Finding(
        name="CNI plugins",
        ok=not missing,
        required=False,
        message=found if missing else "bridge, host-local, portmap",
        hint="apt-get install containernetworking-plugins iptables",
        capabilities=() if rules.installed() else ("ports",),
    )
