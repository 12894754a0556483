"""Networks of nspawn pods with the real CNI plugins: reachability, published ports, names, and what is refused."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import urllib.request

import pytest

from support import network
from support.command import Podium
from support.images import write_web_aci
from support.snapshot import snapshot

GC = ("gc", "--grace-period", "0s", "--expire-prepared", "0s")
HTTPD = ("--", "sh", "-c", "mkdir -p /www; echo served > /www/index.html; exec httpd -f -p 80 -h /www")


@pytest.fixture
def web(podium: Podium, busybox_rootfs: str, test_dir: str) -> Podium:
    """podium with the image `web` that has a port."""
    path = write_web_aci(os.path.join(test_dir, "web.aci"), busybox_rootfs)
    podium("image", "import", path, "--name", "web")
    return podium


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


def ips(podium: Podium, uuid: str) -> list[str]:
    return [n["ip"] for n in podium.json("status", uuid)["pod"]["networks"]]


def fetch(url: str) -> str:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    for attempt in range(50):
        try:
            with opener.open(url, timeout=2) as answer:
                return str(answer.read().decode())
        except OSError:
            if attempt == 49:
                raise
            import time

            time.sleep(0.1)
    raise AssertionError


def traces(uuid: str) -> list[str]:
    """What the host has that names a pod: rules, links, namespaces, addresses."""
    shot = snapshot()
    kinds = ("netns", "link", "rule", "file")
    return [f"{k}:{n}={d}" for k in kinds for n, d in shot.things[k].items() if uuid in f"{n} {d}"]


def test_two_pods_reach_each_other_and_the_host_and_a_port_is_published(web: Podium, session_dir: str) -> None:
    port = free_port()
    uuid = web.out("run", "-d", "--name", "server", "--port", f"http:{port}", "web", *HTTPD)
    v4, v6 = ips(web, uuid)
    assert v4.startswith(network.SUBNET + ".") and v6.startswith("fd5b:7465:")
    assert f"default:{v4}" in web.out("list")
    assert fetch(f"http://{v4}/") == "served\n"
    assert fetch(f"http://[{v6}]/") == "served\n"
    assert fetch(f"http://127.0.0.1:{port}/") == "served\n"  # through the loopback
    gateway = f"{network.SUBNET}.1"
    assert fetch(f"http://{gateway}:{port}/") == "served\n"  # through an address of the host's
    other = web.out("run", "--rm", "web", "--", "sh", "-c", f"wget -qO- http://{v4}/; wget -qO- http://[{v6}]/")
    assert other.split() == ["served", "served"]
    through_host = web.out("run", "--rm", "web", "--", "wget", "-qO-", f"http://{gateway}:{port}/")
    assert through_host == "served"
    refused = web("run", "--port", f"http:{port}", "web", "--", "true", check=125)
    assert "server" in refused.stderr and str(port) in refused.stderr
    web("stop", uuid)
    web("wait", uuid)
    assert ips(web, uuid) == []
    assert traces(uuid) == []  # given back when the pod ends, not when it is collected
    assert web.out(*GC).splitlines()
    with socket.socket() as s:
        s.bind(("127.0.0.1", port))


def test_networks_are_listed_inspected_and_collected(web: Podium, session_dir: str) -> None:
    folder = os.path.join(session_dir, "net.d")
    os.makedirs(folder, exist_ok=True)
    wrong, modern = (os.path.join(folder, name) for name in ("wrong.conflist", "modern.conflist"))
    plugins = os.path.join(session_dir, "modern-plugins")
    log = os.path.join(plugins, "log")
    network.make_plugin(plugins, "modern", f'#!/bin/sh\necho "$CNI_COMMAND" >> {log}; cat >> {log}\n')
    with open(wrong, "w") as f:
        f.write('{"cniVersion": "1.0.0", "name": "wrong", "plugins": []}')
    with open(modern, "w") as f:
        json.dump({"cniVersion": "1.1.0", "name": "modern", "plugins": [{"type": "modern"}]}, f)
    network.look_for_plugins(web, os.path.join(session_dir, "modern.toml"), "/usr/lib/cni", plugins)
    uuid = web.out("run", "-d", "web", "--", "sleep", "1000")
    try:
        listed = {n["name"]: n for n in web.json("network", "list")["networks"]}
        assert listed["default"]["problem"] is None and listed["default"]["plugins"] == ["bridge", "portmap"]
        assert listed["wrong"]["problem"]["reason"] == "bad-input" and wrong in listed["wrong"]["problem"]["message"]
        (attached,) = json.loads(web.out("network", "inspect", "default"))["network"]["attachments"]
        assert (attached["pod"], attached["ifname"], attached["check"]) == (uuid, "eth0", "ok")
        assert [ip.partition("/")[0] for ip in attached["ips"]] == ips(web, uuid)
        assert "wrong" in web("network", "inspect", "wrong", check=2).stderr
        web("network", "inspect", "nowhere", check=3)
        collected = {n["name"]: n["result"] for n in web.json("network", "gc")["networks"]}
        assert collected == {"default": "unsupported", "modern": "done"}
        with open(log) as f:
            command, given = f.read().split("\n", 1)
        valid = json.loads(given)["cni.dev/valid-attachments"]
        assert command == "GC" and any(v["containerID"].startswith(uuid) and v["ifname"] == "eth0" for v in valid)
    finally:
        os.unlink(wrong)
        os.unlink(modern)
        web("stop", "--force", uuid)
        web(*GC)


def test_a_port_of_another_process_is_refused_with_its_name(web: Podium) -> None:
    with socket.socket() as taken:
        taken.bind(("0.0.0.0", 0))
        taken.listen()
        port = taken.getsockname()[1]
        said = web("run", "--port", f"http:{port}", "web", "--", "true", check=125).stderr
    assert f"process {os.getpid()} (" in said
    said = web("run", "--port", f"http:192.0.2.77:{port}", "web", "--", "true", check=125).stderr
    assert "192.0.2.77 is no address of this host" in said
    web(*GC)


def test_names_are_as_asked(web: Podium) -> None:
    options = (
        *("--hostname", "inside", "--dns", "192.0.2.1,192.0.2.2", "--dns-search", "a.example", "--dns-opt", "ndots:3"),
        *("--dns-domain", "b.example", "--hosts-entry", "192.0.2.9=nine"),
    )
    for net in ("default", "none", "host"):
        seen = web.out(
            *("run", "--rm", "--net", net, *options, "web", "--"),
            *("sh", "-c", "hostname; cat /etc/hostname /etc/resolv.conf /etc/hosts"),
        ).splitlines()
        assert seen[:2] == ["inside", "inside"]
        for line in (
            *("nameserver 192.0.2.1", "nameserver 192.0.2.2", "search a.example", "options ndots:3"),
            *("domain b.example", "192.0.2.9 nine", "127.0.0.1 localhost"),
        ):
            assert line in seen, (net, seen)


def test_several_networks_and_arguments(web: Podium, session_dir: str) -> None:
    folder = os.path.join(session_dir, "net.d")
    os.makedirs(folder, exist_ok=True)
    path = os.path.join(folder, "20-second.conf")
    ipam = {"type": "host-local", "dataDir": os.path.join(session_dir, "ipam"), "subnet": "10.223.7.0/24"}
    with open(path, "w") as f:
        json.dump({"cniVersion": "0.3.1", "name": "second", "type": "ptp", "ipam": ipam}, f)
    try:
        seen = web.out(
            *("run", "--rm", "--net", "default,second:IP=10.223.7.77", "web", "--"),
            *("sh", "-c", "ls /sys/class/net; ip -4 addr show dev eth1"),
        )
        assert {"eth0", "eth1", "lo"} <= set(seen.split()) and "10.223.7.77" in seen
    finally:
        os.unlink(path)
    assert traces("10.223.7.77") == []


def test_a_wrong_configuration_is_named_and_breaks_only_who_asks(web: Podium, session_dir: str) -> None:
    folder = os.path.join(session_dir, "net.d")
    os.makedirs(folder, exist_ok=True)
    paths = {}
    for name, content in {
        "bad-version": {"cniVersion": "9", "name": "badversion", "plugins": [{"type": "bridge"}]},
        "bad-type": {"cniVersion": "1.0.0", "name": "badtype", "plugins": [{"type": "bridge"}, {"type": "a/b"}]},
        "missing": {"cniVersion": "1.0.0", "name": "missing", "plugins": [{"type": "nosuch"}]},
    }.items():
        paths[name] = os.path.join(folder, f"{name}.conflist")
        with open(paths[name], "w") as f:
            json.dump(content, f)
    paths["garbage"] = os.path.join(folder, "garbage.conflist")
    with open(paths["garbage"], "w") as f:
        f.write("{")
    try:
        for net, name, key, code in (
            ("badversion", "bad-version", "cniVersion", 2),
            ("badtype", "bad-type", "plugins[1].type", 2),
            ("missing", "missing", "plugins[0].type", 7),
            ("garbage", "garbage", "no JSON", 2),
        ):
            said = web("prepare", "--net", net, "web", "--", "true", check=code).stderr
            assert paths[name] in said and key in said
        assert web.out("run", "--rm", "web", "--", "echo", "fine") == "fine"
    finally:
        for path in paths.values():
            os.unlink(path)
    assert "there is no network 'nowhere'" in web("prepare", "--net", "nowhere", "web", "--", "true", check=3).stderr
    assert "combined" in web("prepare", "--net", "host,default", "web", "--", "true", check=2).stderr
    assert "forwarded" in web("prepare", "--net", "none", "--port", "http:1", "web", "--", "true", check=2).stderr
    assert not web.pods()


def test_a_tap_reaches_the_bridge(host_guard: object, session_dir: str, test_dir: str) -> None:
    """What a VM gets: frames written to the tap come out at the bridge, and the namespace itself stays silent."""
    program = f"""
import os, socket, struct, sys
from podium.net import cni, tap
from podium.linux import namespaces
from podium.types import Interface, NetworkSetup
path = {os.path.join(test_dir, "ns")!r}
inode = namespaces.pin_netns(path)
conf = {{"cniVersion": "1.0.0", "name": "tap", "type": "bridge", "bridge": {network.BRIDGE!r}, "isGateway": True,
  "ipam": {{"type": "host-local", "dataDir": {os.path.join(test_dir, "ipam")!r},
           "subnet": "{network.SUBNET}.0/24", "gateway": "{network.SUBNET}.1"}}}}
env = {{"CNI_CONTAINERID": "tap-test", "CNI_NETNS": path, "CNI_IFNAME": "eth0"}}
try:
    result = cni.call("ADD", conf, env, ["/usr/lib/cni"])
    ip = result["ips"][0]["address"]
    setup = NetworkSetup(netns=path, netns_fd=os.open(path, os.O_RDONLY),
                         interfaces=(Interface(network="tap", name="eth0", addresses=(ip,)),))
    made = tap.open_tap(setup, "eth0")
    mac = bytes.fromhex(made.mac.replace(":", ""))
    me, gateway = (socket.inet_aton(a) for a in (ip.partition("/")[0], "{network.SUBNET}.1"))
    arp = struct.pack("!HHBBH6s4s6s4s", 1, 0x800, 6, 4, 1, mac, me, bytes(6), gateway)
    os.write(made.fd, bytes(10) + b"\\xff" * 6 + mac + b"\\x08\\x06" + arp)
    import select
    while True:
        assert select.select([made.fd], [], [], 10)[0], "no answer"
        frame = os.read(made.fd, 4096)[10:]
        if frame[12:14] == b"\\x08\\x06" and frame[20:22] == b"\\x00\\x02":
            break
    assert frame[:6] == mac and frame[28:32] == gateway, frame
    print("answered", made.mtu)
    os.close(made.fd)
finally:
    cni.call("DEL", conf, env, ["/usr/lib/cni"])
    namespaces.unpin_netns(path, inode)
"""
    import sys

    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=60)
    assert done.stdout.split() == ["answered", "1500"], done.stderr


def test_a_user_namespace_and_a_network_go_together(web: Podium) -> None:
    seen = web.out(
        "run", "--rm", "--private-users", "web", "--", "sh", "-c", "cat /proc/self/uid_map; ls /sys/class/net"
    )
    assert seen.split()[0] == "0" and seen.split()[1] != "0" and "eth0" in seen.split()


def test_without_plugins_podium_makes_the_bridge_itself(web: Podium, session_dir: str) -> None:
    network.look_for_plugins(web, os.path.join(session_dir, "bare.toml"), "/nonexistent")
    port, lone = free_port(), free_port()
    uuid = web.out("run", "-d", "--name", "server", "--port", f"http:{port}", "web", *HTTPD)
    v4, v6 = ips(web, uuid)
    gateway = f"{network.SUBNET}.1"
    served = [f"http://{v4}/", f"http://[{v6}]/", f"http://{gateway}:{port}/", f"http://[{network.SUBNET6}:1]:{port}/"]
    for url in (*served, f"http://127.0.0.1:{port}/"):
        assert fetch(url) == "served\n", url
    script = "".join(f"wget -qO- {url};" for url in served)
    other = web.out("run", "--rm", "web", "--", "sh", "-c", f"{script} ip route")
    own = web.out("enter", uuid, "--", "sh", "-c", script)
    assert own.split() == other.split()[:4] == ["served"] * 4 and f"default via {network.SUBNET}.1" in other
    assert any("MASQUERADE" in line for line in traces(uuid))
    (attached,) = json.loads(web.out("network", "inspect", "default"))["network"]["attachments"]
    assert attached["check"] == "ok", attached
    assert "server" in web("run", "--port", f"http:{port}", "web", "--", "true", check=125).stderr
    web("stop", "--force", uuid)
    web("wait", uuid)
    assert traces(uuid) == []
    with socket.socket() as s:
        s.bind(("127.0.0.1", port))
    alone = web.out("run", "-d", "--port", f"http:127.0.0.1:{lone}", "web", *HTTPD)
    assert fetch(f"http://127.0.0.1:{lone}/") == "served\n"
    with pytest.raises(OSError):
        socket.create_connection((gateway, lone), 2)
    web("stop", "--force", alone)
    before = set(web.pods())
    dying = web.using(web.binary, PODIUM_TRACE_KILL="run:ended")
    dying("run", "--port", f"http:{port}", "web", "--", "true", check=125)
    (killed,) = set(web.pods()) - before
    assert any("DNAT" in line for line in traces(killed))
    web(*GC)
    assert not web.pods() and traces(killed) == traces(alone) == []
    ipam = os.path.join(session_dir, "ipam", "default")
    assert [n for n in os.listdir(ipam) if not n.startswith(("last", "lock"))] == []
