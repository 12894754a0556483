"""Host ports: a socket of the supervisor's is bound to each while the pod runs, so that nobody else can take it.

It never listens: what comes in is redirected to the pod before any socket is looked for. The kernel gives it back when
the supervisor ends, however it does.
"""

from __future__ import annotations

import errno
import os
import socket

from podium.errors import BadInput, InUse

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from typing import Any

    from podium.types import Pod


def reserve(pod: Pod, wanted: Sequence[Mapping[str, Any]]) -> list[socket.socket]:
    """Bind every port that is to be forwarded.

    Raises:
        InUse: one is taken; names who has it.
        BadInput: an address is not this host's.
    """
    held: list[socket.socket] = []
    try:
        for port in wanted:
            pod_name = _pod_of(pod, port)
            if pod_name is not None:
                raise _in_use(port, pod_name)
            for family, address in _addresses(str(port.get("hostIP") or "")):
                held.append(_bind(family, address, port))
        return held
    except BaseException:
        for each in held:
            each.close()
        raise


def _addresses(host: str) -> list[tuple[socket.AddressFamily, str]]:
    if host:
        return [(socket.AF_INET6 if ":" in host else socket.AF_INET, host)]
    both = [(socket.AF_INET, "0.0.0.0")]
    if os.path.exists("/proc/net/if_inet6"):
        both.append((socket.AF_INET6, "::"))
    return both


def _bind(family: socket.AddressFamily, address: str, port: Mapping[str, Any]) -> socket.socket:
    kind = socket.SOCK_DGRAM if port["protocol"] == "udp" else socket.SOCK_STREAM
    made = socket.socket(family, kind | socket.SOCK_CLOEXEC)
    try:
        if family == socket.AF_INET6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        if kind == socket.SOCK_STREAM:  # connections that ended just now (TIME_WAIT) hold nothing
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind((address, port["hostPort"]))
        return made
    except OSError as e:
        made.close()
        if e.errno == errno.EADDRINUSE:
            raise _in_use(port, _holder(port)) from None
        if e.errno == errno.EADDRNOTAVAIL or isinstance(e, socket.gaierror):
            raise BadInput(
                f"{address} is no address of this host, so port {port['hostPort']} can't be forwarded there",
                hint="leave the address out, or see 'ip address'",
                subject=address,
            ) from None
        raise OSError(e.errno, f"{e.strerror} (binding a host port)", f"{address}:{port['hostPort']}") from None


def _in_use(port: Mapping[str, Any], holder: str) -> InUse:
    where = f"{port.get('hostIP') or '*'}:{port['hostPort']}/{port['protocol']}"
    return InUse(
        f"host port {where} is taken by {holder}",
        hint="choose another with --port, or end what has it",
        subject=str(port["hostPort"]),
    )


def _overlap(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    if (one["hostPort"], one["protocol"]) != (other["hostPort"], other["protocol"]):
        return False
    a, b = one.get("hostIP") or "", other.get("hostIP") or ""
    return not a or not b or a == b


def _pod_of(pod: Pod, port: Mapping[str, Any]) -> str | None:
    """The pod of this data directory whose attachment, running or not yet collected, forwards the port."""
    for folder in _folders(pod):
        for held in _forwarded(folder):
            if _overlap(held, port):
                uuid = os.path.basename(folder)
                return f"pod {_name(folder) or uuid}" + ("" if _name(folder) is None else f" ({uuid})")
    return None


def _folders(pod: Pod) -> Iterator[str]:
    for phase in ("run", "exited-garbage", "garbage"):
        parent = os.path.join(pod.data_root, "pods", phase)
        try:
            names = os.listdir(parent)
        except FileNotFoundError:
            continue
        for uuid in names:
            if uuid != pod.uuid and os.path.exists(os.path.join(parent, uuid, "network.json")):
                yield os.path.join(parent, uuid)


def _forwarded(folder: str) -> list[Mapping[str, Any]]:
    from podium.errors import Corrupt
    from podium.pods.ledger import PodLedger

    found: list[Mapping[str, Any]] = []
    try:
        for resource in PodLedger(folder).outstanding():
            if resource.kind == "address":
                for plugin in resource.attrs.get("plugins", ()):
                    found += (plugin.get("runtimeConfig") or {}).get("portMappings", ())
    except (Corrupt, OSError):
        pass
    return found


def _name(folder: str) -> str | None:
    from podium.errors import PodiumError
    from podium.pods import envelope

    try:
        return envelope.read(folder).name
    except (PodiumError, OSError):
        return None


def _holder(port: Mapping[str, Any]) -> str:
    """The process that has a socket on the port."""
    import psutil

    wanted = socket.SOCK_DGRAM if port["protocol"] == "udp" else socket.SOCK_STREAM
    for connection in psutil.net_connections("inet"):
        local = connection.laddr
        if local and local.port == port["hostPort"] and connection.type == wanted and connection.pid:
            try:
                return f"process {connection.pid} ({psutil.Process(connection.pid).name()})"
            except psutil.Error:
                continue
    return "another process, or a pod of another data directory"
