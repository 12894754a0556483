"""Links of a network namespace made for the test."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable

import pytest

from podium.errors import InUse
from podium.linux import namespaces, netlink


def _apart(action: Callable[[], None]) -> None:
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            namespaces.unshare(namespaces.CLONE_NEWNET)
            action()
            code = 0
        except BaseException as e:
            os.write(2, f"{type(e).__name__}: {e}\n".encode())
        finally:
            os._exit(code)
    assert os.waitpid(pid, 0)[1] == 0


def test_only_links_with_the_alias_are_deleted() -> None:
    def use() -> None:
        subprocess.run(["ip", "link", "add", "pv0", "type", "veth", "peer", "name", "pv1"], check=True)
        link = next(link for link in netlink.links() if link.name == "pv0")
        assert link.kind == "veth" and link.alias == ""
        subprocess.run(["ip", "link", "set", "pv0", "alias", "podium:some-uuid"], check=True)
        assert {link.name: link.alias for link in netlink.links()}["pv0"] == "podium:some-uuid"
        for alias in ("podium:another", "podium:"):
            with pytest.raises(InUse, match="some-uuid"):
                netlink.delete_link(link.index, alias)
        assert netlink.delete_link(link.index, "podium:some-uuid")
        assert not netlink.delete_link(link.index, "podium:some-uuid")
        assert [link.name for link in netlink.links() if link.kind == "veth"] == []
        with pytest.raises(ValueError, match="alias"):
            netlink.delete_link(1, "")

    _apart(use)


def test_a_link_is_brought_up_and_has_addresses() -> None:
    def use() -> None:
        assert netlink.addresses() == []
        netlink.set_up("lo")
        assert netlink.Address(1, "127.0.0.1", 8) in netlink.addresses()
        with pytest.raises(OSError, match="No such device"):
            netlink.set_up("none")

    _apart(use)
