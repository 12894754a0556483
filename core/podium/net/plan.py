"""What a pod asks of the network, resolved at prepare and kept with it in `network.json`, a sealed record.

A later change of a configuration file changes no pod that is prepared.
"""

from __future__ import annotations

import os

from podium import records
from podium.errors import BadInput, Corrupt, HostLacks
from podium.named import NamedTuple
from podium.net import cni, configuration, rules
from podium.net.configuration import NetConf, Settings

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

FILE = "network.json"


class Wanted(NamedTuple):
    """A network of a pod: its interface's name, its list, and arguments (CNI_ARGS)."""

    ifname: str
    conf: NetConf
    args: str


class Plan(NamedTuple):
    """All networks of a pod.

    Attributes:
        networks: in the order of eth0, eth1, …
        ports: port mappings as CNI has them: hostPort, containerPort, protocol, hostIP.
        plugin_dirs: where the plugins are.
    """

    networks: list[Wanted]
    ports: list[dict[str, Any]]
    plugin_dirs: list[str]


def make(names: Sequence[str], ports: list[dict[str, Any]], settings: Settings) -> Plan | None:
    """Resolve the names; None for `host` and `none`, which need nothing.

    Raises:
        BadInput: the names or the ports don't go together, or a configuration is wrong.
        NotFound, HostLacks: a network or a plugin is not there.
    """
    if names in (("host",), ("none",)):
        if ports:
            raise BadInput(
                f"no port can be forwarded with the network {names[0]}",
                hint="leave --port out, or choose --net default",
                subject="--port",
            )
        return None
    networks, seen = [], set()
    for number, text in enumerate(names):
        name, _, args = text.partition(":")
        if name in ("host", "none"):
            raise BadInput(f"the network {name} can't be combined with others", subject=name)
        if name in seen:
            raise BadInput(f"the network {name!r} is asked for twice", subject=name)
        seen.add(name)
        for pair in filter(None, args.split(";")):
            if not all(pair.partition("=")):
                raise BadInput(f"network {name!r}: {pair!r} is not of the form K=V", hint="NAME:K=V;K=V", subject=name)
        conf = configuration.find(name, settings)
        if conf.file == configuration.BUILT_IN and not ports:  # portmap would have nothing to do, in 100 ms
            conf = conf._replace(plugins=[p for p in conf.plugins if p["type"] != "portmap"])
        if ports and any(p["type"] == cni.BUILT_IN for p in conf.plugins) and not rules.installed():
            raise HostLacks(
                f"no port can be forwarded to the network {name!r}: iptables is not installed",
                hint="apt-get install iptables",
                subject="--port",
            )
        networks.append(Wanted(f"eth{number}", conf, args))
    for port in ports:
        if port["hostPort"] > 65535 or port["containerPort"] > 65535:
            raise BadInput(f"port {port['hostPort']} is above 65535", subject="--port")
        if not any((p.get("capabilities") or {}).get("portMappings") for w in networks for p in w.conf.plugins):
            raise BadInput(
                f"none of the networks {', '.join(seen)} forwards ports (port {port['hostPort']})",
                hint='a plugin with "capabilities": {"portMappings": true} does, such as portmap',
                subject="--port",
            )
    return Plan(networks, ports, settings.plugin_dirs)


def write(folder: str, plan: Plan) -> None:
    """Keep it in the pod's folder."""
    from podium.linux.files import write_atomic

    networks = [{"ifname": w.ifname, "args": w.args, **w.conf._asdict()} for w in plan.networks]
    record = {"network": 1, "networks": networks, "ports": plan.ports, "plugin_dirs": plan.plugin_dirs}
    write_atomic(os.path.join(folder, FILE), records.seal(record) + b"\n", sync_folder=False)


def read(folder: str) -> Plan | None:
    """The plan in a pod's folder; None: it has none. Raises Corrupt."""
    what = f"the network record of pod {os.path.basename(folder)}"
    try:
        data = records.read(os.path.join(folder, FILE), what)
        return Plan(
            [
                Wanted(
                    str(w["ifname"]), NetConf(w["name"], w["file"], w["version"], list(w["plugins"])), str(w["args"])
                )
                for w in data["networks"]
            ],
            [dict(port) for port in data["ports"]],
            [str(folder) for folder in data["plugin_dirs"]],
        )
    except FileNotFoundError:
        return None
    except (KeyError, TypeError, ValueError) as e:
        raise Corrupt(f"{what} is damaged: {type(e).__name__} {e}"[:200], subject=what) from None
