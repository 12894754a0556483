"""What confines an app by its effect: block limits, sysctls, masked and read-only paths, under nspawn and fly."""

from __future__ import annotations

import time

import pytest

from podium.linux.disks import whole_disk
from podium.linux.limits import IoLimit, Limits, missing
from support.command import Podium, Result
from support.fly import Fly


def _run(fly: Fly, stage1: str, command: str, *isolators: tuple[str, object], check: int | None = 0) -> Result:
    fly.image("confined", source=fly.rootfs, isolators=[{"name": n, "value": v} for n, v in isolators])
    net = "host" if stage1 == "fly" else "none"
    return fly.podium(
        *("run", "--rm", "--stage1", stage1, "--net", net, "confined", "--", "-c", command),
        check=check,
    )


STAGE1 = pytest.mark.parametrize("stage1", ["nspawn", "fly"])


@STAGE1
@pytest.mark.parametrize(
    ("name", "limit", "options"),
    [("resource/block-bandwidth", "1M", "bs=1M count=2"), ("resource/block-iops", "20", "bs=4k count=40")],
)
def test_block_limits_throttle(fly: Fly, stage1: str, name: str, limit: str, options: str) -> None:
    if missing(Limits(io=(IoLimit("8:0", read_bps=1),))) or whole_disk(fly.dir) is None:
        pytest.skip("this host has no block controller that throttles, or no disk below the tests")
    # Twice what may be written in a second: no quick machine can be done in less than half of that.
    write = f"dd if=/dev/zero of=/f {options} oflag=direct conv=fsync 2>&1 && wc -c < /f"
    begin = time.monotonic()
    done = _run(fly, stage1, write, (name, {"default": True, "limit": limit}))
    assert time.monotonic() - begin > 0.9 and done.stdout.split()[-1] in ("2097152", "163840")


@STAGE1
def test_masked_and_read_only_paths(fly: Fly, stage1: str) -> None:
    show = (
        "cat /proc/meminfo | wc -c; ls /etc | wc -l; echo x > /etc/new || echo refused; echo x > /proc/meminfo;"
        "echo x > /tmp/w && echo writable; mkdir /proc/sys/x; echo 1 > /proc/sys/vm/drop_caches || echo fixed;"
        "echo x > /usr/share/new || echo fixed"
    )
    done = _run(
        *(fly, stage1, "mkdir -p /usr/share/; " + show),
        ("podium/masked-paths", {"set": ["/proc/meminfo", "/etc", "/not/there", "/tmp/w/deeper"]}),
        ("podium/readonly-paths", {"set": ["/proc/sys", "/usr", "/nowhere"]}),
    )
    assert done.stdout.split() == ["0", "0", "refused", "writable", "fixed", "fixed"]
    assert "Read-only file system" in done.stderr


def test_masked_and_read_only_paths_are_the_app_s_own(fly: Fly) -> None:
    isolators = [
        {"name": "podium/masked-paths", "value": {"set": ["/proc/meminfo"]}},
        {"name": "podium/readonly-paths", "value": {"set": ["/dev"]}},
    ]
    fly.image("confined", source=fly.rootfs, isolators=isolators)
    show = "wc -c < /proc/meminfo; touch /dev/made 2>/dev/null && echo writable || echo fixed"
    uuid = fly.podium.out(
        *("run", "-d", "--net", "none", "confined", "--name", "a", "--", "-c", show),
        *("---", "box", "--name", "b", "--", "-c", show),
    )
    fly.podium("wait", uuid)
    logged = fly.podium.out("logs", uuid).splitlines()
    assert [line for line in logged if line.startswith("a: ")] == ["a: 0", "a: fixed"]
    size, writable = (line for line in logged if line.startswith("b: "))
    assert int(size.partition(" ")[2]) > 0 and writable == "b: writable"


def test_sysctls_are_the_pod_s_own(fly: Fly) -> None:
    wanted = {"net.ipv4.ip_forward": "1", "kernel.shmmni": "77", "net/ipv4/ip_default_ttl": "33"}
    names = ("net/ipv4/ip_forward", "kernel/shmmni", "net/ipv4/ip_default_ttl")
    before = [_read(name) for name in names]
    show = "cd /proc/sys; cat " + " ".join(names)
    done = _run(fly, "nspawn", show, ("os/unix/sysctl", wanted))
    assert done.stdout.split() == ["1", "77", "33"]
    assert [_read(name) for name in names] == before


def _read(name: str) -> str:
    with open(f"/proc/sys/{name}", encoding="ascii") as f:
        return f.read()


@pytest.mark.parametrize(
    ("stage1", "net", "sysctl", "code", "named"),
    [
        ("nspawn", "host", "net.ipv4.ip_forward", 2, "host's network"),
        ("nspawn", "none", "kernel.panic", 2, "whole host's"),
        ("nspawn", "none", "net.ipv4.nothing", 7, "no sysctl net.ipv4.nothing"),
        ("fly", "host", "kernel.shmmni", 2, "isolator:sysctl"),
    ],
)
def test_sysctls_that_are_refused(fly: Fly, stage1: str, net: str, sysctl: str, code: int, named: str) -> None:
    fly.image("asking", source=fly.rootfs, isolators=[{"name": "os/unix/sysctl", "value": {sysctl: "1"}}])
    done = fly.podium("prepare", "--stage1", stage1, "--net", net, "asking", check=code)
    assert named in done.stderr and not fly.podium.pods()


def test_apps_that_ask_for_different_values(fly: Fly) -> None:
    for name, value in (("one", "70"), ("two", "71")):
        fly.image(name, source=fly.rootfs, isolators=[{"name": "os/unix/sysctl", "value": {"kernel.shmmni": value}}])
    done = fly.podium("prepare", "--net", "none", "one", "---", "two", check=2)
    assert "'70' and '71' in one pod" in done.stderr


def test_check_names_the_block_limits(podium: Podium) -> None:
    for name in ("nspawn", "fly"):
        (checked,) = podium.json("stage1", "check", name)["plugins"]
        found = {f["name"]: f["ok"] for f in checked["findings"]}
        assert found["block limits"] is not bool(missing(Limits(io=(IoLimit("8:0", read_bps=1),))))
