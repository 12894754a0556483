"""What CNI plugins that were killed leave in the packet filter: rules whose comment carries the container's id.

bridge (ipMasq) and portmap comment each rule with `name: "NETWORK" id: "ID"`, and name their chains by a hash of both;
the id has the pod's uuid in it, so both prove whose they are.
"""

from __future__ import annotations

import os
import shutil

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from typing import Any

_PATH = "/usr/sbin:/sbin:/usr/bin:/bin"


def left(network: str, container: str) -> list[str]:
    """The rules and chains of a container that are still there, in both families."""
    return [f"{family}: {line}" for family, line in _found(network, container)]


def sweep(network: str, container: str) -> None:
    """Remove them. Those that refer to a chain go before it does."""
    import shlex

    found = list(_found(network, container))
    for family, line in found:
        if line.startswith("-A "):
            _run(family, "-D", *shlex.split(line)[1:])
    for family, line in found:
        if line.startswith(":"):
            _run(family, "-F", line[1:])
    for family, line in found:
        if line.startswith(":"):
            _run(family, "-X", line[1:])


def masquerade(network: str, container: str, address: str, subnet: str) -> None:
    """Let what an address sends out of its subnet have the host's; the same rules as the plugin bridge makes.

    Where the host has no iptables, nothing is masqueraded, and that is told.
    """
    family, everyone = ("ip6tables", "ff00::/8") if ":" in address else ("iptables", "224.0.0.0/4")
    if shutil.which(family, path=_PATH) is None:
        os.write(2, f"{family} is not installed: pods reach this host and each other only\n".encode())
        return
    chain, comment = _chain("CNI-", network, container), _comment(network, container)
    _run(family, "-N", chain)
    _run(family, "-A", chain, "-d", subnet, *comment, "-j", "ACCEPT")
    _run(family, "-A", chain, "!", "-d", everyone, *comment, "-j", "MASQUERADE")
    _run(family, "-A", "POSTROUTING", "-s", address, *comment, "-j", chain)


def publish(
    network: str, container: str, address: str, subnet: str, bridge: str, ports: Sequence[Mapping[str, Any]]
) -> None:
    """Forward host ports to an address, from the host itself, its loopback (IPv4) and the bridge too: as portmap does.

    Args:
        network: name of it.
        container: id.
        address: the pod's; ports of the other family are passed over.
        subnet: that it is in.
        bridge: that it is behind.
        ports: port mappings as CNI has them.
    """
    family, loopback = ("ip6tables", "") if ":" in address else ("iptables", "127.0.0.0/8")
    wanted = [p for p in ports if not p.get("hostIP") or (":" in p["hostIP"]) == (":" in address)]
    if not wanted:
        return
    chain, comment = _chain("CNI-DN-", network, container), _comment(network, container)
    _run(family, "-N", chain)
    for port in wanted:
        what = ("-p", port["protocol"], *(("-d", port["hostIP"]) if port.get("hostIP") else ()))
        to = f"[{address}]:{port['containerPort']}" if loopback == "" else f"{address}:{port['containerPort']}"
        _run(family, "-A", chain, *what, "--dport", str(port["hostPort"]), *comment, "-j", "DNAT", "--to", to)
        # What the answer would not come back through: the sender is on the bridge, or a loopback address.
        to_pod = ("-d", address, "-p", port["protocol"], "--dport", str(port["containerPort"]))
        forwarded = ("-m", "conntrack", "--ctstate", "DNAT", *comment, "-j", "MASQUERADE")
        for source in filter(None, (subnet, loopback)):
            # Before the rules that let what stays in the subnet as it is.
            _run(family, "-I", "POSTROUTING", "1", "-s", source, *to_pod, *forwarded)
    for hook in ("PREROUTING", "OUTPUT"):
        _run(family, "-A", hook, "-m", "addrtype", "--dst-type", "LOCAL", *comment, "-j", chain)
    if loopback:
        with open(f"/proc/sys/net/ipv4/conf/{bridge}/route_localnet", "w", encoding="ascii") as f:
            f.write("1")


def installed() -> bool:
    """Whether the host has iptables."""
    return shutil.which("iptables", path=_PATH) is not None


def _comment(network: str, container: str) -> tuple[str, ...]:
    return ("-m", "comment", "--comment", f'name: "{network}" id: "{container}"')


def _chain(prefix: str, network: str, container: str) -> str:
    from hashlib import sha512

    return f"{prefix}{sha512(f'{network}{container}'.encode()).hexdigest()}"[:28]


def _chains(network: str, container: str) -> set[str]:
    return {_chain(prefix, network, container) for prefix in ("CNI-", "CNI-DN-", "CNI-SN-")}


def _found(network: str, container: str) -> Iterator[tuple[str, str]]:
    chains, mark = _chains(network, container), f'id: \\"{container}\\"'
    for family in ("iptables", "ip6tables"):
        program = shutil.which(f"{family}-save", path=_PATH)
        if program is None:
            continue
        for line in _output(program, "-t", "nat").splitlines():
            if line.startswith(":") and line[1:].partition(" ")[0] in chains:
                yield family, line.partition(" ")[0]
            elif line.startswith("-A ") and mark in line and line.split(" ")[1] not in chains:
                yield family, line


def _output(*argv: str) -> str:
    import subprocess

    return subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False).stdout


def _run(family: str, *words: str) -> None:
    import subprocess

    program = shutil.which(family, path=_PATH)
    assert program is not None
    argv = [program, "-w", "-t", "nat", *words]
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        os.write(2, f"{' '.join(argv)}: {done.stderr}\n".encode())  # whether it is left is looked at afterwards
