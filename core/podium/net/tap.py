"""A tap in a pod's network namespace, for a virtual machine: bridged there to the interface that CNI made.

The guest has the pod's addresses, on a MAC of its own. They stay on the interface too, since plugins look for them
there at DEL; as a port of a bridge it receives nothing, and the namespace itself answers no ARP and speaks no IPv6 on
the bridge. All of it goes with the namespace.
"""

from __future__ import annotations

import fcntl
import os
import socket
from array import array
from struct import pack, unpack_from

from podium.linux import namespaces
from podium.named import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from podium.types import Interface, NetworkSetup

_TUNSETIFF = 0x400454CA
_IFF_TAP, _IFF_NO_PI, _IFF_VNET_HDR, _IFF_UP = 0x0002, 0x1000, 0x4000, 0x1
_SIOCBRADDBR, _SIOCBRADDIF, _SIOCGIFINDEX, _SIOCGIFFLAGS, _SIOCSIFFLAGS, _SIOCGIFMTU, _SIOCSIFMTU = (
    0x89A0, 0x89A2, 0x8933, 0x8913, 0x8914, 0x8921, 0x8922,
)  # fmt: skip
_SIOCDEVPRIVATE, _BRCTL_SET_AGEING_TIME = 0x89F0, 11  # linux/if_bridge.h


class Tap(NamedTuple):
    """What a hypervisor and its guest need of one interface.

    Attributes:
        fd: of the tap (IFF_VNET_HDR); inheritable after os.set_inheritable. The caller closes it.
        mac: for the guest's interface.
        mtu: likewise, in bytes.
        addresses: with their prefix, to be configured in the guest.
        gateways: of the addresses.
        routes: (destination, gateway or "": the address's gateway of that family).
    """

    fd: int
    mac: str
    mtu: int
    addresses: tuple[str, ...]
    gateways: tuple[str, ...]
    routes: tuple[tuple[str, str], ...]


def open_tap(setup: NetworkSetup, name: str) -> Tap:
    """Make a tap beside the interface `name` of the pod and bridge both. The caller must have one thread only.

    Raises:
        KeyError: the pod has no such interface.
        OSError: of the call that failed, such as ENOENT for /dev/net/tun.
    """
    interface = next((i for i in setup.interfaces if i.name == name), None)
    if interface is None:
        raise KeyError(name)
    with namespaces.inside({"net": setup.netns_fd}):
        return _make(interface)


def _make(interface: Interface) -> Tap:
    tap, bridge = f"tap-{interface.name}", f"br-{interface.name}"
    fd = os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC)
    try:
        flags = _IFF_TAP | _IFF_NO_PI | _IFF_VNET_HDR
        fcntl.ioctl(fd, _TUNSETIFF, pack("16sH22x", tap.encode(), flags))
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
            fcntl.ioctl(sock, _SIOCBRADDBR, bridge.encode() + b"\0")
            # Two ports that pass everything on: it must not learn the guest's MAC on the host's side, where a bridge
            # in hairpin mode sends the guest's own broadcasts back.
            ageing = array("L", [_BRCTL_SET_AGEING_TIME, 0, 0, 0])
            fcntl.ioctl(sock, _SIOCDEVPRIVATE, pack("16sP16x", bridge.encode(), ageing.buffer_info()[0]))
            _set("ipv4", "all", "arp_ignore", "1")  # answer for no address but the bridge's own: it has none
            for link in (bridge, tap):
                _set("ipv6", link, "disable_ipv6", "1")
            (mtu,) = unpack_from("i", fcntl.ioctl(sock, _SIOCGIFMTU, pack("16s24x", interface.name.encode())), 16)
            for link in (tap, interface.name):
                (index,) = unpack_from("i", fcntl.ioctl(sock, _SIOCGIFINDEX, pack("16s24x", link.encode())), 16)
                fcntl.ioctl(sock, _SIOCSIFMTU, pack("16si20x", link.encode(), mtu))
                fcntl.ioctl(sock, _SIOCBRADDIF, pack("16si20x", bridge.encode(), index))
            for link in (tap, bridge):
                answer = fcntl.ioctl(sock, _SIOCGIFFLAGS, pack("16sh22x", link.encode(), 0))
                (state,) = unpack_from("h", answer, 16)
                fcntl.ioctl(sock, _SIOCSIFFLAGS, pack("16sh22x", link.encode(), state | _IFF_UP))
    except BaseException:
        os.close(fd)
        raise
    mac = "02:" + ":".join(f"{byte:02x}" for byte in os.urandom(5))  # locally administered
    return Tap(fd, mac, mtu, interface.addresses, interface.gateways, interface.routes)


def _set(family: str, link: str, key: str, value: str) -> None:
    """A sysctl of the caller's network namespace; a family that the kernel lacks needs none."""
    try:
        with open(f"/proc/sys/net/{family}/conf/{link}/{key}", "w", encoding="ascii") as f:
            f.write(value)
    except FileNotFoundError:
        pass
