"""resolv.conf(5), hosts(5) and hostname(5) of a pod: written into its folder, mounted over what its images have."""

from __future__ import annotations

import os

from podium.appc.names import is_hostname

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from podium.types import Interface, Pod

_HOST_RESOLV = "/etc/resolv.conf"
_SYSTEMD_RESOLV = "/run/systemd/resolve/resolv.conf"  # the servers behind the stub, which only the host can reach


def hostname(pod: Pod) -> str:
    """The pod's host name: as asked, else its name where that can be one (`_` as `-`), else made from its uuid."""
    name = pod.hostname or (pod.name or "").replace("_", "-")
    return name if is_hostname(name) else f"podium-{pod.uuid[:8]}"


def asked(pod: Pod) -> bool:
    """Whether the pod asks for anything that these files say."""
    network = pod.network
    if pod.hostname and network.names != ("host",):
        return True
    return bool(network.dns or network.dns_search or network.dns_options or network.dns_domain or network.hosts)


def write(
    pod: Pod, interfaces: Sequence[Interface] = (), dns: Sequence[Mapping[str, Any]] = ()
) -> tuple[tuple[str, ...], tuple[tuple[str, str], ...]]:
    """Write the files.

    Args:
        pod: whose.
        interfaces: its addresses stand in hosts, beside its name.
        dns: what its networks say of name servers (CNI results).

    Returns:
        The name servers in effect, and for each file its path and where apps are to see it.
    """
    text, servers = resolv_conf(pod, dns)
    made = (_write(pod, "resolv.conf", text), _write(pod, "hosts", hosts(pod, interfaces)), write_hostname(pod))
    return tuple(servers), made


def write_hostname(pod: Pod) -> tuple[str, str]:
    """Write hostname alone: its path, and where apps are to see it."""
    return _write(pod, "hostname", f"{hostname(pod)}\n")


def _write(pod: Pod, name: str, content: str) -> tuple[str, str]:
    folder = os.path.join(pod.dir, "net")
    os.makedirs(folder, mode=0o755, exist_ok=True)
    path = os.path.join(folder, name)
    with open(path, "w", encoding="utf-8") as f:
        f.write(content)
    os.chmod(path, 0o644)
    return path, f"/etc/{name}"


def resolv_conf(pod: Pod, dns: Sequence[Mapping[str, Any]]) -> tuple[str, list[str]]:
    """Text and name servers: of the options, else of the networks, else of the host."""
    asked = pod.network
    servers = list(asked.dns) or [str(s) for d in dns for s in d.get("nameservers") or ()]
    search = list(asked.dns_search) or [str(s) for d in dns for s in d.get("search") or ()]
    options = list(asked.dns_options) or [str(s) for d in dns for s in d.get("options") or ()]
    domain = asked.dns_domain or next((str(d["domain"]) for d in dns if d.get("domain")), "")
    lines = [f"domain {domain}"] if domain else []
    if not servers:
        lines_of_host = _host_lines()
        servers = [line.split()[1] for line in lines_of_host if line.startswith("nameserver ")]
        if not search and not domain:
            lines += [line for line in lines_of_host if line.startswith(("search ", "domain "))]
        if not options:
            lines += [line for line in lines_of_host if line.startswith("options ")]
    if search:
        lines.append(f"search {' '.join(search)}")
    lines += [f"nameserver {server}" for server in servers]
    if options:
        lines.append(f"options {' '.join(options)}")
    return "".join(f"{line}\n" for line in lines), servers


def _host_lines() -> list[str]:
    for path in (_HOST_RESOLV, _SYSTEMD_RESOLV):
        try:
            with open(path, encoding="utf-8", errors="replace") as f:
                lines = [" ".join(line.split()) for line in f if len(line.split()) > 1]
        except FileNotFoundError:
            continue
        # A server on the host's loopback is none for the pod.
        usable = [line for line in lines if not line.startswith(("nameserver 127.", "nameserver ::1", "#", ";"))]
        if any(line.startswith("nameserver ") for line in usable) or path == _SYSTEMD_RESOLV:
            return usable
    return []


def hosts(pod: Pod, interfaces: Sequence[Interface]) -> str:
    """The text of /etc/hosts."""
    name = hostname(pod)
    lines = ["127.0.0.1 localhost", "::1 localhost ip6-localhost ip6-loopback"]
    lines += [f"{a.partition('/')[0]} {name}" for i in interfaces for a in i.addresses]
    if not any(i.addresses for i in interfaces):
        lines.append(f"127.0.1.1 {name}")
    lines += [f"{ip} {host}" for ip, host in pod.network.hosts]
    return "".join(f"{line}\n" for line in lines)
