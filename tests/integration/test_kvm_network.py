"""Networks of virtual machines with the real CNI plugins: a guest's addresses, names and ports; nothing is left."""

from __future__ import annotations

import json
import os
import socket
import time
import urllib.request

from support import network
from support.command import Podium
from support.images import write_web_aci
from support.snapshot import snapshot

SHOW = (
    "mkdir -p /www; gateway=$(ip route | sed -n 's/default via //p' | cut -d' ' -f1);"
    "{ ip addr; cat /etc/resolv.conf /etc/hosts; ping -c 5 -w 10 $gateway >&2 && echo reached; } >/www/index.html;"
    "exec httpd -f -p 80 -h /www"
)


def _fetch(url: str) -> str:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    deadline = time.monotonic() + 60
    while True:
        try:
            with opener.open(url, timeout=5) as answer:
                return str(answer.read().decode())
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)


def test_a_guest_has_its_addresses_names_and_ports(podium: Podium, busybox_rootfs: str, test_dir: str) -> None:
    folder = os.path.join(os.path.dirname(podium.config), "net.d")
    os.makedirs(folder, exist_ok=True)
    other = os.path.join(folder, "lone.conflist")
    plugin = {
        "type": "ptp",
        "ipam": {"type": "host-local", "subnet": "10.222.9.0/29", "dataDir": os.path.join(test_dir, "ipam")},
    }
    with open(other, "w", encoding="utf-8") as f:
        json.dump({"cniVersion": "1.0.0", "name": "lone", "plugins": [plugin]}, f)
    image = write_web_aci(os.path.join(test_dir, "web.aci"), busybox_rootfs)
    podium("image", "import", image, "--name", "web")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    try:
        uuid = podium.out(
            *("run", "-d", "--stage1", "kvm", "--net", "default", "--net", "lone", "--dns", "192.0.2.53"),
            *("--dns-search", "a.example", "--dns-opt", "ndots:3", "--dns-domain", "b.example"),
            *("--hosts-entry", "192.0.2.9=nine"),
            *("--name", "vm", "--port", f"http:{port}", "web", "--", "sh", "-c", SHOW),
        )
        v4, v6, v4_lone = [n["ip"] for n in podium.json("status", uuid)["pod"]["networks"]]
        assert v4.startswith(network.SUBNET + ".") and f"default:{v4}" in podium.out("list")
        said = _fetch(f"http://127.0.0.1:{port}/")
        for line in ("search a.example", "options ndots:3", "domain b.example", "192.0.2.9 nine"):
            assert line in said.splitlines(), said
        for line in (f"inet {v4}/24", f"inet6 {v6}/64", f"inet {v4_lone}/", "nameserver 192.0.2.53", f"{v4} vm"):
            assert line in said, said
        assert "reached" in said
        assert _fetch(f"http://{v4}/") == _fetch(f"http://[{v6}]/") == _fetch(f"http://{v4_lone}/") == said
        podium("stop", uuid)
        podium("gc", "--grace-period", "0s")
    finally:
        os.unlink(other)
    things = snapshot().things
    assert not [n for kind in ("netns", "link", "rule") for n, d in things[kind].items() if uuid in f"{n} {d}"]
