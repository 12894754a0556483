"""The built-in plugin: a masqueraded bridge, for `default` where the CNI plugins are not installed.

It is called as a CNI plugin is, in a process of its own, and keeps addresses in files as host-local does, so that both
may be used on one bridge, and what one took the other frees. It masquerades and forwards ports with iptables, where the
host has that.
"""

from __future__ import annotations

import fcntl
import os
import sys

from podium.errors import Failed
from podium.linux import namespaces, netlink
from podium.net import rules

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
    from typing import Any


def main(env: Mapping[str, str], given: bytes) -> int:
    """Do what CNI_COMMAND says; the result or the error is printed as JSON. Returns the exit code."""
    import json

    config = json.loads(given)
    try:
        command = {"ADD": _add, "DEL": _del, "CHECK": _check}.get(env["CNI_COMMAND"])
        answer = command(env, config) if command else None
    except Exception as e:  # whatever it is, the caller is to hear of it in the protocol's words
        print(json.dumps({"cniVersion": config["cniVersion"], "code": 100, "msg": f"{type(e).__name__}: {e}"}))
        return 1
    if answer is not None:
        print(json.dumps(answer))
    return 0


def _add(env: Mapping[str, str], config: Mapping[str, Any]) -> dict[str, Any]:
    import ipaddress

    container, ifname, bridge = env["CNI_CONTAINERID"], env["CNI_IFNAME"], config["bridge"]
    networks = [ipaddress.ip_network(subnet) for subnet in config["ipam"]["subnets"]]
    index = netlink.ensure_bridge(bridge)
    for network in networks:
        netlink.add_address(bridge, str(_gateway(network)), network.prefixlen)
        _forward(network.version)
    addresses = _reserve(_folder(config), container, ifname, networks)
    host = f"veth{os.urandom(4).hex()}"
    netns = os.open(env["CNI_NETNS"], os.O_RDONLY | os.O_CLOEXEC)
    netlink.add_veth(host, ifname, netns, index, container)
    ports = (config.get("runtimeConfig") or {}).get("portMappings")
    if ports:  # the pod reaches its own ports as others do
        with open(f"/sys/class/net/{host}/brport/hairpin_mode", "w", encoding="ascii") as f:
            f.write("1")
    with namespaces.inside({"net": netns}):
        netlink.set_up(ifname)
        for address, network in zip(addresses, networks, strict=True):
            netlink.add_address(ifname, str(address), network.prefixlen)
            netlink.add_default_route(str(_gateway(network)))
        mac = netlink.mac_of(ifname)
    for address, network in zip(addresses, networks, strict=True):
        rules.masquerade(config["name"], container, str(address), str(network))
        if ports:
            rules.publish(config["name"], container, str(address), str(network), bridge, ports)
    return {
        "cniVersion": config["cniVersion"],
        "interfaces": [{"name": bridge}, {"name": host}, {"name": ifname, "mac": mac, "sandbox": env["CNI_NETNS"]}],
        "ips": [
            {"interface": 2, "address": f"{address}/{network.prefixlen}", "gateway": str(_gateway(network))}
            for address, network in zip(addresses, networks, strict=True)
        ],
        "routes": [{"dst": "0.0.0.0/0" if network.version == 4 else "::/0"} for network in networks],
        "dns": {},
    }


def _del(env: Mapping[str, str], config: Mapping[str, Any]) -> None:
    if env["CNI_NETNS"]:
        netns = os.open(env["CNI_NETNS"], os.O_RDONLY | os.O_CLOEXEC)
        with namespaces.inside({"net": netns}):
            netlink.delete_named(env["CNI_IFNAME"])
    rules.sweep(config["name"], env["CNI_CONTAINERID"])
    folder = _folder(config)
    for name, holder in _reserved(folder):
        if holder == [env["CNI_CONTAINERID"], env["CNI_IFNAME"]]:
            os.unlink(os.path.join(folder, name))


def _check(env: Mapping[str, str], config: Mapping[str, Any]) -> None:
    holder = [env["CNI_CONTAINERID"], env["CNI_IFNAME"]]
    reserved = {name for name, found in _reserved(_folder(config)) if found == holder}
    with namespaces.inside({"net": os.open(env["CNI_NETNS"], os.O_RDONLY | os.O_CLOEXEC)}):
        there = {address.address for address in netlink.addresses()}
    for ip in config["prevResult"]["ips"]:
        address = ip["address"].partition("/")[0]
        if address not in reserved & there:
            raise Failed(f"{address} is not the pod's any more")


def _gateway(network: IPv4Network | IPv6Network) -> IPv4Address | IPv6Address:
    return network.network_address + 1


def _forward(version: int) -> None:
    path = "/proc/sys/net/ipv4/ip_forward" if version == 4 else "/proc/sys/net/ipv6/conf/all/forwarding"
    with open(path, "r+", encoding="ascii") as f:
        if f.read().strip() != "1":
            f.seek(0)
            f.write("1")


def _folder(config: Mapping[str, Any]) -> str:
    return os.path.join(str(config["ipam"]["dataDir"]), str(config["name"]))


def _reserved(folder: str) -> Iterator[tuple[str, list[str]]]:
    """Address, and whose it is: container id and interface."""
    try:
        names = os.listdir(folder)
    except FileNotFoundError:
        return
    for name in names:
        try:
            with open(os.path.join(folder, name), encoding="utf-8", errors="replace") as f:
                yield name, f.read().split()
        except FileNotFoundError:
            continue


def _reserve(
    folder: str, container: str, ifname: str, networks: list[IPv4Network | IPv6Network]
) -> list[IPv4Address | IPv6Address]:
    """A free address of each network, written down before it is used; as host-local does it, under its lock."""
    import ipaddress
    from itertools import islice

    os.makedirs(folder, mode=0o755, exist_ok=True)
    lock = os.open(os.path.join(folder, "lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        found: list[IPv4Address | IPv6Address] = []
        for number, network in enumerate(networks):
            mark = os.path.join(folder, f"last_reserved_ip.{number}")
            try:
                with open(mark, encoding="ascii") as f:
                    last = int(ipaddress.ip_address(f.read().strip())) - int(network.network_address)
            except (FileNotFoundError, ValueError):
                last = 1
            size = network.num_addresses - (network.version == 4)  # without the broadcast address
            offsets = ((last - 1 + step) % (size - 2) + 2 for step in range(size - 2))  # from 2 on: 1 is the gateway
            for address in (network.network_address + offset for offset in islice(offsets, 1 << 20)):
                if _take(os.path.join(folder, str(address)), f"{container}\r\n{ifname}"):
                    with open(mark, "w", encoding="ascii") as f:
                        f.write(str(address))
                    found.append(address)
                    break
            else:
                raise Failed(f"no address is free in {network}")
        return found
    finally:
        os.close(lock)


def _take(path: str, content: str) -> bool:
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        return False
    os.write(fd, content.encode())
    os.fsync(fd)
    os.close(fd)
    return True


def serve(env: Mapping[str, str]) -> None:
    """The child's side of a call: standard input and output are the protocol's. Never returns."""
    code = 1
    try:
        with os.fdopen(0, "rb", closefd=False) as given, os.fdopen(1, "w", closefd=False) as sys.stdout:
            code = main(env, given.read())
    finally:
        os._exit(code)
