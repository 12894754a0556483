"""Networks under kills, reboots and plugins that fail: faults 6, 7 and 13, and what fault 1 and 5 mean for addresses.

PODIUM_NETWORK_KILLS=100 sets how many kills at random moments there are.
"""

from __future__ import annotations

import glob
import json
import os
import random
import select
import signal
import time

import psutil
import pytest

from podium.linux import procs
from podium.pods import status
from support import network
from support.command import Podium
from support.snapshot import snapshot

KILLS = int(os.environ.get("PODIUM_NETWORK_KILLS", "6"))
GC = ("gc", "--grace-period", "0s", "--expire-prepared", "0s")
FAKE = """#!/bin/sh
echo "$CNI_COMMAND $CNI_CONTAINERID netns=$CNI_NETNS" >> {log}
cat > {log}.$CNI_COMMAND
mode=$(cat {mode})
case "$mode $CNI_COMMAND" in
"error DEL") echo '{{"cniVersion":"1.0.0","code":100,"msg":"no such namespace"}}'; exit 1 ;;
"killed DEL") kill -9 $$ ;;
"fussy DEL") test -z "$CNI_NETNS" || test -e "$CNI_NETNS" || exit 3 ;;
"full ADD") echo '{{"code":7,"msg":"out of addresses"}}'; exit 1 ;;
"garbage ADD") echo 'not JSON'; exit 0 ;;
esac
test "$CNI_COMMAND" != ADD || echo '{{"cniVersion":"1.0.0","ips":[{{"address":"192.0.2.7/24"}}]}}'
"""


# The plugin bridge, killed in its first DEL after it has removed the link, by which a second one knows what to undo.
HALF = """#!/bin/sh
if test "$CNI_COMMAND" = DEL && mkdir {reached}; then
    nsenter --net="$CNI_NETNS" ip link delete "$CNI_IFNAME"
    echo > {reached}/done
    exec sleep 1000
fi
exec /usr/lib/cni/bridge
"""


@pytest.fixture
def box(podium: Podium, busybox_rootfs: str) -> Podium:
    podium("image", "import", busybox_rootfs, "--name", "box", "--exec", "/bin/busybox")
    return podium


class Fake:
    """A CNI plugin that fails as `mode` says, and logs its calls."""

    def __init__(self, folder: str, config: str) -> None:
        self.log, self._mode = os.path.join(folder, "calls"), os.path.join(folder, "mode")
        self.plugins, net_d = os.path.join(folder, "plugins"), os.path.join(folder, "net.d")
        os.makedirs(net_d)
        self.set("fine")
        network.make_plugin(self.plugins, "fake", FAKE.format(log=self.log, mode=self._mode))
        self.list = os.path.join(net_d, "fake.conflist")
        with open(self.list, "w") as f:
            json.dump({"cniVersion": "1.0.0", "name": "fake", "plugins": [{"type": "fake", "own": "kept"}]}, f)
        with open(config) as f:
            cgroup = f.read().partition("[net]")[0]
        self.config = os.path.join(folder, "fake.toml")
        with open(self.config, "w") as f:
            f.write(f'{cgroup}[net]\nplugin-dirs = ["{self.plugins}"]\nconfig-dir = "{net_d}"\n')

    def set(self, mode: str) -> None:
        with open(self._mode, "w") as f:
            f.write(mode)

    def calls(self) -> list[str]:
        with open(self.log) as f:
            return f.read().splitlines()


@pytest.fixture
def fake(box: Podium, test_dir: str) -> Fake:
    made = Fake(test_dir, box.config)
    box.config = made.config
    return made


def _killed(box: Podium, point: str, *options: str) -> str:
    dying = box.using(box.binary, PODIUM_TRACE_KILL=point)
    dying("run", *options, "box", "--", "true", check=None)
    (uuid,) = box.pods()
    return uuid


def _traces(uuid: str) -> list[str]:
    shot = snapshot()
    return [
        f"{k}:{n}={d}"
        for k in ("netns", "link", "rule", "mount")
        for n, d in shot.things[k].items()
        if uuid in f"{n} {d}"
    ]


def _addresses(session_dir: str, uuid: str) -> list[str]:
    folder = os.path.join(session_dir, "ipam", "default")
    found = []
    for name in os.listdir(folder):
        with open(os.path.join(folder, name), errors="replace") as f:
            if uuid in f.read():
                found.append(name)
    return found


def test_01_network_killed_at_every_point(box: Podium, session_dir: str, test_dir: str) -> None:
    log = os.path.join(test_dir, "points")
    box.using(box.binary, PODIUM_TRACE_LOG=log)("run", "--rm", "box", "--", "true")
    with open(log) as f:
        reached = [line.split(" ", 2)[2].strip() for line in f]
    points = list(dict.fromkeys(p for p in reached if p.startswith(("net:", "prepare:network"))))
    assert len(points) >= 12
    for point in points:
        uuid = _killed(box, point)
        box(*GC)
        assert box.pods() == {} and _traces(uuid) == [] and _addresses(session_dir, uuid) == [], point


def test_01_network_killed_at_random_moments(box: Podium, session_dir: str) -> None:
    start = time.monotonic()
    box("run", "--rm", "box", "--", "true")
    whole = time.monotonic() - start
    for number in range(KILLS):
        process = box.start("run", "-d", "box", "--", "true")
        time.sleep(random.uniform(0.1, 1) * whole)
        # Half of the times podium alone: what it has called, and that calls in turn, is left to end by itself.
        _kill(box, process.pid, with_called=number % 2 == 0)
        process.communicate()
        uuids = list(box.pods())
        box(*GC)
        left = {uuid: (_traces(uuid), _addresses(session_dir, uuid)) for uuid in uuids}
        assert box.pods() == {} and all(found == ([], []) for found in left.values()), (number, left)


def test_01_a_forced_stop_while_networks_are_given_back(box: Podium, session_dir: str, test_dir: str) -> None:
    reached, plugins = os.path.join(test_dir, "reached"), os.path.join(test_dir, "plugins")
    network.make_plugin(plugins, "bridge", HALF.format(reached=reached))
    network.look_for_plugins(box, os.path.join(test_dir, "half.toml"), plugins, "/usr/lib/cni")
    uuid = box.out("run", "-d", "box", "--", "sleep", "1000")
    assert _traces(uuid)
    stop = box.start("stop", uuid)
    while not os.path.exists(f"{reached}/done"):
        assert stop.poll() is None
        time.sleep(0.01)
    box("stop", "--force", uuid)
    stop.communicate(timeout=30)
    assert box.json("status", uuid)["pod"]["state"] == "exited"
    assert [trace for trace in _traces(uuid) if not trace.startswith("netns")] == []
    assert _addresses(session_dir, uuid) == []
    box(*GC)
    assert box.pods() == {} and _traces(uuid) == []


def _kill(box: Podium, caller: int, *, with_called: bool) -> None:
    """Kill podium and what it has started, all at one moment: each is stopped until there are no new ones."""
    victims: dict[int, int] = {}
    while new := _podium(box, caller, with_called=with_called) - victims.keys():
        for pid in new:
            try:
                victims[pid] = os.pidfd_open(pid)
                signal.pidfd_send_signal(victims[pid], signal.SIGSTOP)
            except ProcessLookupError:
                victims.setdefault(pid, -1)
    for fd in victims.values():
        if fd >= 0:
            try:
                signal.pidfd_send_signal(fd, signal.SIGKILL)
            except ProcessLookupError:
                pass
    for fd in victims.values():
        if fd >= 0:
            select.select([fd], [], [])
            os.close(fd)


def _podium(box: Podium, caller: int, *, with_called: bool) -> set[int]:
    """The caller, the supervisors of its pods, and what they called, if asked for."""
    found = {caller}
    for folder in glob.glob(f"{box.dir}/pods/run/*"):
        runtime = status.read_runtime(folder)
        if runtime is not None and runtime.supervisor is not None and procs.alive(runtime.supervisor):
            found.add(runtime.supervisor.pid)
    found |= {child for pid in found for child in _children(pid) if _is_podium(child)}
    todo = list(found) if with_called else []
    while todo:
        new = set(_children(todo.pop())) - found
        found |= new
        todo += new
    return found


def _children(pid: int) -> list[int]:
    try:
        return [child.pid for child in psutil.Process(pid).children()]
    except psutil.NoSuchProcess:
        return []


def _is_podium(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as f:
            return b"podium" in f.read()
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_05_addresses_are_freed_after_a_reboot(box: Podium, session_dir: str) -> None:
    uuid = _killed(box, "run:ended")
    assert len(_addresses(session_dir, uuid)) == 2
    (pinned,) = [n for n in snapshot(()).things["netns"] if uuid in n]
    from podium.linux import namespaces

    namespaces.unpin_netns(pinned)  # what a reboot does: no namespace, and nothing in /run
    box(*GC)
    assert box.pods() == {} and _addresses(session_dir, uuid) == [] and _traces(uuid) == []


def test_06_teardown_without_the_namespace(box: Podium, fake: Fake) -> None:
    for mode, code in (("error", 6), ("killed", 6), ("fussy", 0)):
        fake.set("fine")
        uuid = _killed(box, "run:ended", "--net", "fake")
        (pinned,) = [n for n in snapshot(()).things["netns"] if uuid in n]
        from podium.linux import namespaces

        namespaces.unpin_netns(pinned)
        with open(fake.list, "w") as f:
            f.write("{}")  # today's configuration is not asked
        fake.set(mode)
        box(*GC, check=code)
        assert fake.calls()[-1].startswith(f"DEL {uuid}") and fake.calls()[-1].endswith("netns=")
        if code:
            pod = box.pods()[uuid]
            assert pod["state"] == "gc-failed" and "fake" in pod["problem"]["message"]
            box(*GC, check=code)
            assert "attempts: 2" in box.pods()[uuid]["problem"]["message"]
            fake.set("fine")
            box(*GC)
        with open(f"{fake.log}.DEL") as f:
            given = json.load(f)
        assert given["own"] == "kept" and given["prevResult"]["ips"][0]["address"] == "192.0.2.7/24"
        assert box.pods() == {}
        with open(fake.list, "w") as f:
            json.dump({"cniVersion": "1.0.0", "name": "fake", "plugins": [{"type": "fake", "own": "kept"}]}, f)


@pytest.mark.parametrize(("mode", "told"), [("full", "out of addresses"), ("garbage", "no JSON")])
def test_06_a_plugin_that_fails_to_add(box: Podium, fake: Fake, mode: str, told: str) -> None:
    fake.set(mode)
    done = box("run", "--net", "fake", "box", "--", "true", check=125)
    assert told in done.stderr
    assert fake.calls()[-1].startswith("DEL ")  # what it may have taken is given back at once
    box(*GC)
    assert box.pods() == {}


def test_07_an_old_pods_gc_leaves_a_newer_pods_network(box: Podium, session_dir: str) -> None:
    old = _killed(box, "run:ended")
    new = box.out("run", "-d", "box", "--", "sleep", "1000")
    box("gc", "--grace-period", "0s")
    assert old not in box.pods() and _traces(old) == [] and _addresses(session_dir, old) == []
    assert len(_addresses(session_dir, new)) == 2
    seen = box.out("enter", new, "--", "/bin/busybox", "ping", "-c", "1", "-W", "5", f"{network.SUBNET}.1")
    assert "1 packets received" in seen
    box("stop", "--force", new)
    box(*GC)
    assert _traces(new) == []


def test_13_links_of_a_killed_pod_are_gone_after_gc(box: Podium, session_dir: str) -> None:
    uuid = box.out("run", "-d", "box", "--", "sleep", "1000")
    pod = box.json("status", uuid)["pod"]
    assert any(t.startswith("link:veth") for t in _traces(uuid))
    os.kill(pod["pid"], signal.SIGKILL)
    box("stop", "--force", uuid, check=None)
    box(*GC)
    assert box.pods() == {} and _traces(uuid) == [] and _addresses(session_dir, uuid) == []
