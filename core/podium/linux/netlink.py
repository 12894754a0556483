"""Network links and addresses: the only module that imports pyroute2, and only inside its functions (it takes 100 ms).

All is about the network namespace that the caller is in.
"""

from __future__ import annotations

from podium.named import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class Link(NamedTuple):
    """A network interface.

    Attributes:
        index: its number in its network namespace.
        name: its name.
        kind: `veth`, `bridge`, …; empty for a device that is none of the virtual kinds.
        alias: its alias (podium puts the pod's uuid there); empty: none.
        master: index of the bridge that it is a port of, or None.
    """

    index: int  # type: ignore[assignment]  # hides tuple.index()
    name: str
    kind: str
    alias: str
    master: int | None


class Address(NamedTuple):
    """An address of a link: `address` without, `prefix` the length of its network's prefix."""

    index: int  # type: ignore[assignment]  # hides tuple.index()
    address: str
    prefix: int


def _link(message: Any) -> Link:
    info = message.get_attr("IFLA_LINKINFO")
    kind = info.get_attr("IFLA_INFO_KIND") if info is not None else None
    return Link(
        message["index"],
        message.get_attr("IFLA_IFNAME"),
        kind or "",
        message.get_attr("IFLA_IFALIAS") or "",
        message.get_attr("IFLA_MASTER"),
    )


def links() -> list[Link]:
    """All links."""
    from pyroute2 import IPRoute

    with IPRoute() as route:
        return [_link(message) for message in route.get_links()]


def delete_link(index: int, alias: str) -> bool:
    """Delete a link, if it carries exactly this alias (an index is reused).

    Returns:
        Whether it was there.

    Raises:
        InUse: the link of that index carries another alias; it was left alone.
    """
    from pyroute2 import IPRoute
    from pyroute2.netlink.exceptions import NetlinkError

    if not alias:
        raise ValueError("a link without an alias is not podium's")
    try:
        with IPRoute() as route:
            found = _link(route.get_links(index)[0])
            if found.alias != alias:
                from podium.errors import InUse

                raise InUse(
                    f"link {found.name} carries the alias {found.alias!r}, not {alias!r}",
                    hint="it was left alone",
                    subject=found.name,
                )
            route.link("del", index=index)
    except NetlinkError as e:
        if e.code == 19:  # ENODEV
            return False
        raise OSError(e.code, f"{e} (deleting a link)", f"link {index}") from None
    return True


def set_up(name: str) -> None:
    """Bring a link up.

    Raises:
        OSError: ENODEV: there is none of that name.
    """
    from pyroute2 import IPRoute
    from pyroute2.netlink.exceptions import NetlinkError

    with IPRoute() as route:
        found = route.link_lookup(ifname=name)
        if not found:
            raise OSError(19, "No such device (bringing up a link)", name)
        try:
            route.link("set", index=found[0], state="up")
        except NetlinkError as e:
            raise OSError(e.code, f"{e} (bringing up a link)", name) from None


def addresses() -> list[Address]:
    """All addresses of all links."""
    from pyroute2 import IPRoute

    with IPRoute() as route:
        return [
            Address(
                message["index"],
                message.get_attr("IFA_LOCAL") or message.get_attr("IFA_ADDRESS"),
                message["prefixlen"],
            )
            for message in route.get_addr()
        ]


def ensure_bridge(name: str) -> int:
    """A bridge of that name, made if there is none, and up; returns its index.

    Raises:
        InUse: the link of that name is no bridge.
    """
    from pyroute2 import IPRoute
    from pyroute2.netlink.exceptions import NetlinkError

    with IPRoute() as route:
        try:
            route.link("add", ifname=name, kind="bridge")
        except NetlinkError as e:
            if e.code != 17:  # EEXIST
                raise OSError(e.code, f"{e} (making a bridge)", name) from None
        found = _link(route.get_links(ifname=name)[0])
        if found.kind != "bridge":
            from podium.errors import InUse

            raise InUse(f"link {name} is no bridge but {found.kind or 'a device'}", subject=name)
        route.link("set", index=found.index, state="up")
        return found.index


def add_veth(name: str, peer: str, netns: int, bridge: int, alias: str) -> None:
    """A veth pair: one end here, up, with this alias, a port of `bridge`; the other, `peer`, in the namespace `netns`.

    Raises:
        OSError: such as EEXIST.
    """
    from pyroute2 import IPRoute
    from pyroute2.netlink.exceptions import NetlinkError

    try:
        with IPRoute() as route:
            route.link("add", ifname=name, kind="veth", peer={"ifname": peer, "net_ns_fd": netns})
            index = route.link_lookup(ifname=name)[0]
            route.link("set", index=index, ifalias=alias)
            route.link("set", index=index, master=bridge, state="up")
    except NetlinkError as e:
        raise OSError(e.code, f"{e} (making a veth pair)", name) from None


def add_address(name: str, address: str, prefix: int) -> None:
    """Give a link an address; it may have it. An IPv6 address is usable at once (IFA_F_NODAD)."""
    from pyroute2 import IPRoute
    from pyroute2.netlink.exceptions import NetlinkError

    with IPRoute() as route:
        index = route.link_lookup(ifname=name)[0]
        flags = {"flags": 0x02} if ":" in address else {}
        try:
            route.addr("add", index=index, address=address, prefixlen=prefix, **flags)
        except NetlinkError as e:
            if e.code != 17:
                raise OSError(e.code, f"{e} (adding an address)", f"{name} {address}") from None


def add_default_route(gateway: str) -> None:
    """The default route of the gateway's family."""
    from pyroute2 import IPRoute
    from pyroute2.netlink.exceptions import NetlinkError

    try:
        with IPRoute() as route:
            route.route("add", dst="default" if ":" not in gateway else "::/0", gateway=gateway)
    except NetlinkError as e:
        raise OSError(e.code, f"{e} (adding a route)", gateway) from None


def mac_of(name: str) -> str:
    """The hardware address of a link."""
    from pyroute2 import IPRoute

    with IPRoute() as route:
        return str(route.get_links(ifname=name)[0].get_attr("IFLA_ADDRESS"))


def delete_named(name: str) -> bool:
    """Delete the link of that name, in the caller's namespace; returns whether it was there."""
    from pyroute2 import IPRoute
    from pyroute2.netlink.exceptions import NetlinkError

    with IPRoute() as route:
        found = route.link_lookup(ifname=name)
        if not found:
            return False
        try:
            route.link("del", index=found[0])
        except NetlinkError as e:
            if e.code != 19:
                raise OSError(e.code, f"{e} (deleting a link)", name) from None
        return True
