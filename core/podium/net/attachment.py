"""Put a pod into its networks, and take it out again: from the ledger alone.

Ledger entries, in this order: `netns` (the pinned namespace), then for each network `address`, whose attributes are
all that DEL needs: the exact configuration of each plugin as it was given, with the environment.
"""

from __future__ import annotations

import os

from podium.errors import Failed, PodiumError
from podium.linux import namespaces
from podium.net import cni, files
from podium.net.plan import Plan, Wanted
from podium.trace import trace
from podium.types import Interface, NetworkSetup

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from podium.types import Ledger, Pod

NETNS_FOLDER = "/run/podium/netns"


def attach(pod: Pod, plan: Plan, ledger: Ledger, cgroup: str) -> NetworkSetup:
    """Pin a network namespace for the pod and ADD every network.

    The caller is in the host's mount namespace. What fails half-way is in the ledger.

    Args:
        pod: whose.
        plan: what `plan.read` gave.
        ledger: of the pod.
        cgroup: plugins run there.

    Raises:
        Failed, HostLacks: a plugin failed.
        InUse: a host port is taken; names its holder.
    """
    held: list[Any] = []
    if plan.ports:
        from podium.net import ports

        held = ports.reserve(pod, plan.ports)
    container = f"{pod.uuid}-{os.urandom(4).hex()}"
    netns = os.path.join(NETNS_FOLDER, container)
    os.makedirs(NETNS_FOLDER, mode=0o755, exist_ok=True)
    number = ledger.intend("netns", netns)
    trace("net:netns-intended")
    inode = namespaces.pin_netns(netns)
    trace("net:netns-pinned")
    ledger.held(number, inode=inode)
    trace("net:netns-held")
    interfaces: list[Interface] = []
    dns: list[Mapping[str, Any]] = []
    for wanted in plan.networks:
        attrs = _attributes(plan, wanted, container, netns)
        number = ledger.intend("address", f"{wanted.conf.name}/{container}/{wanted.ifname}", **attrs)
        trace(f"net:add-intended:{wanted.ifname}")
        result = _add(attrs, cgroup, wanted.ifname)
        trace(f"net:added:{wanted.ifname}")
        ledger.held(number, result=result)
        _mark_links(result, pod.uuid)
        trace(f"net:held:{wanted.ifname}")
        interfaces.append(_interface(wanted, result))
        dns.append(result.get("dns") or {})
    fd = os.open(netns, os.O_RDONLY | os.O_CLOEXEC)
    servers, written = files.write(pod, interfaces, dns)
    return NetworkSetup(
        netns=netns,
        netns_fd=fd,
        interfaces=tuple(interfaces),
        dns=servers,
        files=written,
        reserved=tuple(held),
    )


def _attributes(plan: Plan, wanted: Wanted, container: str, netns: str) -> dict[str, Any]:
    """All that a plugin is given, for ADD now and for DEL at any later time."""
    conf = wanted.conf
    capable: dict[str, Any] = {"portMappings": plan.ports} if plan.ports else {}
    plugins = []
    for plugin in conf.plugins:
        runtime = {k: v for k, v in capable.items() if (plugin.get("capabilities") or {}).get(k)}
        plugins.append(
            {**plugin, "cniVersion": conf.version, "name": conf.name, **({"runtimeConfig": runtime} if runtime else {})}
        )
    args = f"IgnoreUnknown=true;{wanted.args}" if wanted.args else "IgnoreUnknown=true"
    env = {"CNI_CONTAINERID": container, "CNI_NETNS": netns, "CNI_IFNAME": wanted.ifname, "CNI_ARGS": args}
    return {"network": conf.name, "file": conf.file, "plugins": plugins, "env": env, "plugin_dirs": plan.plugin_dirs}


def _add(attrs: Mapping[str, Any], cgroup: str, ifname: str) -> dict[str, Any]:
    result: dict[str, Any] | None = None
    for number, plugin in enumerate(attrs["plugins"]):
        given = plugin if result is None else {**plugin, "prevResult": result}
        result = cni.call("ADD", given, attrs["env"], attrs["plugin_dirs"], cgroup)
        trace(f"net:plugin-added:{ifname}:{number}")
    assert result is not None
    return result


def delete(attrs: Mapping[str, Any], *, sweep: bool = False) -> None:
    """DEL what an `address` entry lists, last plugin first. Idempotent.

    Args:
        attrs: of the entry.
        sweep: also remove what plugins that were killed left in the packet filter, and verify that nothing is left.

    Raises:
        Failed, HostLacks: a plugin failed, or left something; the entry is to be kept.
    """
    env = dict(attrs["env"])
    if not is_namespace(env["CNI_NETNS"]):
        env["CNI_NETNS"] = ""  # it is gone (a reboot, say): the specification's word for that
    failed = _delete(attrs, env)
    if sweep:
        from podium.net import rules

        rules.sweep(attrs["network"], env["CNI_CONTAINERID"])
        if failed:  # over what one that was killed had left, or had not made yet: the first time did what could be done
            failed = _delete(attrs, env)
    if failed:
        raise failed[0]
    if sweep and (left := leftovers(attrs)):
        raise Failed(f"network {attrs['network']!r} did not give back: {', '.join(left)[:500]}", subject=left[0])


def _delete(attrs: Mapping[str, Any], env: Mapping[str, str]) -> list[PodiumError]:
    """DEL with each plugin, whatever becomes of the others: what can be freed is. Returns what failed."""
    failed: list[PodiumError] = []
    for plugin in reversed(attrs["plugins"]):
        given = {**plugin, "prevResult": attrs["result"]} if attrs.get("result") else plugin
        try:
            cni.call("DEL", given, env, attrs["plugin_dirs"])
        except PodiumError as e:
            failed.append(e)
    return failed


def leftovers(attrs: Mapping[str, Any]) -> list[str]:
    """What can be seen of an attachment: rules, and addresses that host-local keeps in files."""
    from podium.net import rules

    container = attrs["env"]["CNI_CONTAINERID"]
    found = rules.left(attrs["network"], container)
    for plugin in attrs["plugins"]:
        ipam = plugin.get("ipam")
        if isinstance(ipam, dict) and ipam.get("type") == "host-local":
            folder = os.path.join(ipam.get("dataDir") or "/var/lib/cni/networks", attrs["network"])
            found += [f"address {address}" for address in _reserved(folder, container)]
    return found


def _reserved(folder: str, container: str) -> list[str]:
    found = []
    try:
        names = os.listdir(folder)
    except FileNotFoundError:
        return []
    for name in names:
        try:
            with open(os.path.join(folder, name), encoding="utf-8", errors="replace") as f:
                if f.readline().strip() == container:
                    found.append(name)
        except (FileNotFoundError, IsADirectoryError):
            continue
    return found


def detach(ledger: Ledger, *, again: bool = False) -> None:
    """Give back, in the host's mount namespace, what `attach` took: at a pod's end. What fails is left to gc.

    A plugin that was killed half-way leaves rules that the next DEL does not find, and says that all is well: so what
    was not wholly made, or is given back once more, is looked after here.

    Args:
        ledger: of the pod.
        again: somebody who did this was killed.

    Raises:
        PodiumError, OSError: of the first that failed.
    """
    for resource in reversed(ledger.outstanding()):
        if resource.kind == "address" and "plugins" in resource.attrs:
            trace("net:del")
            delete(resource.attrs, sweep=again or not resource.held)
            trace("net:deleted")
            ledger.released(resource.number, "supervisor")
        elif resource.kind == "netns" and resource.id.startswith(NETNS_FOLDER + "/"):
            namespaces.unpin_netns(resource.id, resource.attrs.get("inode"))
            trace("net:unpinned")
            ledger.released(resource.number, "supervisor")


def is_namespace(path: str) -> bool:
    """Whether a network namespace is pinned there."""
    try:
        return os.stat(path).st_dev == os.stat("/proc/self/ns/net").st_dev
    except FileNotFoundError:
        return False


def _mark_links(result: Mapping[str, Any], uuid: str) -> None:
    """The host's ends carry the pod's uuid as their alias; a bridge is nobody's."""
    for interface in result.get("interfaces") or ():
        name = str(interface.get("name", ""))
        folder = f"/sys/class/net/{name}"
        if name and "/" not in name and not interface.get("sandbox") and not os.path.isdir(f"{folder}/bridge"):
            try:
                with open(f"{folder}/ifalias", "w", encoding="ascii") as f:
                    f.write(uuid)
            except FileNotFoundError:
                continue


def _interface(wanted: Wanted, result: Mapping[str, Any]) -> Interface:
    known = result.get("interfaces") or []
    mac = next((str(i.get("mac", "")) for i in known if i.get("sandbox") and i.get("name") == wanted.ifname), "")
    ips = result.get("ips") or []
    return Interface(
        network=wanted.conf.name,
        name=wanted.ifname,
        mac=mac,
        addresses=tuple(str(ip["address"]) for ip in ips),
        gateways=tuple(str(ip["gateway"]) for ip in ips if ip.get("gateway")),
        routes=tuple((str(r["dst"]), str(r.get("gw") or "")) for r in result.get("routes") or ()),
    )
