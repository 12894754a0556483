"""The pod's place in the network: its names, its addresses and its ports."""

from __future__ import annotations

import socket
import urllib.request
from typing import Any, ClassVar

import pytest

from podium.testing.pods import Pods

_SERVE = "mkdir -p /tmp/www && echo served > /tmp/www/index.html && exec httpd -f -p 80 -h /tmp/www"


class NetworkChecks:
    """See the package."""

    plugin: ClassVar[str]

    def test_dns(self, pods: Pods, claims: frozenset[str]) -> None:
        """The pod asks the name servers that were given."""
        if "dns" not in claims:
            pytest.skip("the plugin does not claim `dns`")
        done = pods.run("cat /etc/resolv.conf", pod=("--dns", "192.0.2.1"), check=None)
        assert "nameserver 192.0.2.1" in done.stdout.splitlines(), f"{done.stdout}\n{done.stderr}"

    def test_hostname(self, pods: Pods, claims: frozenset[str]) -> None:
        """The pod has the host name that was asked for."""
        if "hostname" not in claims:
            pytest.skip("the plugin does not claim `hostname`")
        assert pods.run("hostname", pod=("--hostname", "inside")).stdout == "inside\n"

    def test_network(self, pods: Pods, claims: frozenset[str]) -> None:
        """`none` has no way out, `host` has the host's links."""
        for name, own in (("none", True), ("host", False)):
            if f"network:{name}" not in claims:
                continue
            words = ("run", "--stage1", self.plugin, "--net", name, "box", "--exec", "/bin/cat", "--", "/proc/net/dev")
            lines = pods.podium(*words).stdout.splitlines()[2:]
            links = {line.partition(":")[0].strip() for line in lines}
            hosts = {line.partition(":")[0].strip() for line in _read("/proc/net/dev").splitlines()[2:]}
            if own:
                assert links <= {"lo"}, f"--net none shows {sorted(links)}"
            else:
                assert links >= {"lo"} and len(links & hosts) >= min(2, len(hosts)), f"--net host: {sorted(links)}"

    def test_network_of_cni(self, pods: Pods, claims: frozenset[str]) -> None:
        """The host reaches an app at the address that `status` tells."""
        if "network:cni" not in claims:
            pytest.skip("the plugin does not claim `network:cni`")
        uuid = pods.start_manifest(_SERVE, lambda pod: None, "--net", "default")
        networks = pods.status(uuid)["networks"]
        assert networks, "the pod has no address"
        _fetch(pods, networks[0]["ip"], 80)

    def test_ports(self, pods: Pods, claims: frozenset[str]) -> None:
        """A port of the host's leads to the app's, through 127.0.0.1 too; another pod can't have it meanwhile."""
        if "ports" not in claims:
            pytest.skip("the plugin does not claim `ports`")
        port = _free_port()

        def published(pod: dict[str, Any]) -> None:
            pod["apps"][0]["app"]["ports"] = [{"name": "http", "protocol": "tcp", "port": 80}]
            pod["ports"] = [{"name": "http", "hostPort": port}]

        pods.start_manifest(_SERVE, published, "--net", "default")
        _fetch(pods, "127.0.0.1", port)
        with socket.socket() as other, pytest.raises(OSError, match="in use"):
            other.bind(("0.0.0.0", port))


def _free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


def _fetch(pods: Pods, host: str, port: int) -> None:
    """Have the page of `_SERVE` from there; the app may still be about to listen."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def served() -> bool:
        try:
            with opener.open(f"http://{host}:{port}/", timeout=2) as answer:
                return bool(answer.read() == b"served\n")
        except OSError:
            return False

    pods.until(served, f"the app serves at {host}:{port}")


def _read(path: str) -> str:
    with open(path, encoding="utf-8") as f:
        return f.read().strip()
