"""Cgroup hierarchies are found, and limits written, as each kernel interface has them: on folders of plain files."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from podium.errors import HostLacks
from podium.linux import cgroup, hierarchies
from podium.linux.hierarchies import Hierarchies

V1 = """\
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / /fake/cpu,cpuacct rw,relatime shared:3 - cgroup cgroup rw,cpu,cpuacct
34 31 0:31 / /fake/memory rw,relatime - cgroup cgroup rw,memory
35 31 0:32 / /fake/net_cls rw,relatime - cgroup cgroup rw,net_cls,net_prio
36 31 0:33 / /fake/systemd rw,relatime - cgroup cgroup rw,xattr,release_agent=/lib/agent,name=systemd
37 31 0:35 / /fake/blkio rw,relatime - cgroup cgroup rw,blkio
41 31 0:38 / /fake/unified rw,relatime - cgroup2 cgroup2 rw,nsdelegate
42 31 0:38 / /elsewhere rw,relatime - cgroup2 cgroup2 rw
"""


def _v2(root: Path, controllers: str = "cpu io memory pids") -> Hierarchies:
    return Hierarchies(str(root), frozenset(controllers.split()), {})


def _touch(folder: Path, *names: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).write_text("")


def test_v1_and_hybrid_are_told_apart_from_plain_folders() -> None:
    found = hierarchies.detect(V1)
    assert found.v2 == "/fake/unified"
    assert found.v1 == {
        "cpu": "/fake/cpu,cpuacct",
        "cpuacct": "/fake/cpu,cpuacct",
        "memory": "/fake/memory",
        "systemd": "/fake/systemd",
        "blkio": "/fake/blkio",
    }
    assert found.mounts == ["/fake/unified", "/fake/cpu,cpuacct", "/fake/memory", "/fake/systemd", "/fake/blkio"]
    assert found.folder("io", "p/u") == "/fake/blkio/p/u"
    assert found.folder("pids", "p/u") is None
    assert found.is_v2("/fake/unified/p") and not found.is_v2("/fake/memory/p")


def test_pure_v2_reads_its_controllers(tmp_path: Path) -> None:
    (tmp_path / "cgroup.controllers").write_text("cpuset cpu io memory pids\n")
    found = hierarchies.detect(f"29 23 0:26 / {tmp_path} rw shared:4 - cgroup2 cgroup2 rw,nsdelegate\n")
    assert found == Hierarchies(str(tmp_path), frozenset({"cpuset", "cpu", "io", "memory", "pids"}), {})
    assert hierarchies.detect("") == Hierarchies(None, frozenset(), {})


@pytest.mark.parametrize("path", ["", "/", "..", "podium/../..", "/podium", "podium/", "a//b", "./a"])
def test_no_path_leads_to_a_cgroup_of_the_host(tmp_path: Path, path: str) -> None:
    at = _v2(tmp_path)
    for function in (cgroup.create, cgroup.remove, cgroup.procs, cgroup.existing, cgroup.populated):
        with pytest.raises(ValueError, match="cgroup path"):
            function(path, at=at)


def test_controllers_are_passed_down_from_the_top(tmp_path: Path) -> None:
    _touch(tmp_path, "cgroup.subtree_control")
    (tmp_path / "cgroup.controllers").write_text("cpu memory misc\n")
    _touch(tmp_path / "podium", "cgroup.subtree_control")
    (tmp_path / "podium/cgroup.controllers").write_text("cpu memory\n")
    (tmp_path / "podium/cgroup.subtree_control").write_text("memory")
    cgroup.create("podium/u", _v2(tmp_path))
    assert (tmp_path / "cgroup.subtree_control").read_text() == "+memory"  # the last write; it has no misc and no pids
    assert (tmp_path / "podium/cgroup.subtree_control").read_text() == "+cpury"
    assert (tmp_path / "podium/u").is_dir()


def test_v2_limits(tmp_path: Path) -> None:
    names = ("memory.max", "memory.low", "memory.swap.max", "cpu.max", "cpu.weight", "pids.max", "io.max")
    _touch(tmp_path / "p/u", *names)
    io = cgroup.IoLimit("8:0", read_bps=1000, write_iops=5)
    limits = cgroup.Limits(64 << 20, 32 << 20, 1500, 1024, 20, (io,))
    cgroup.apply("p/u", limits, _v2(tmp_path))
    written = {name: (tmp_path / "p/u" / name).read_text() for name in names}
    assert written == {
        "memory.max": "67108864",
        "memory.low": "33554432",
        "memory.swap.max": "0",
        "cpu.max": "150000 100000",
        "cpu.weight": "39",
        "pids.max": "20",
        "io.max": "8:0 rbps=1000 wiops=5",
    }


def test_v1_io_limits(tmp_path: Path) -> None:
    _touch(tmp_path / "p", *(f"blkio.throttle.{a}_{b}_device" for a in ("read", "write") for b in ("bps", "iops")))
    at = Hierarchies(None, frozenset(), {"blkio": str(tmp_path)})
    cgroup.apply("p", cgroup.Limits(io=(cgroup.IoLimit("8:0", write_bps=7, read_iops=9),)), at)
    assert (tmp_path / "p/blkio.throttle.write_bps_device").read_text() == "8:0 7"
    assert (tmp_path / "p/blkio.throttle.read_iops_device").read_text() == "8:0 9"
    assert (tmp_path / "p/blkio.throttle.read_bps_device").read_text() == ""


def test_what_is_missing_is_named_and_never_created(tmp_path: Path) -> None:
    at = _v2(tmp_path, "cpu memory")
    limits = cgroup.Limits(memory_max=1, pids_max=3, io=(cgroup.IoLimit("8:0", 1),))
    assert cgroup.missing(limits, at) == ["pids", "io"]
    assert cgroup.missing(cgroup.Limits(memory_max=1), at) == []
    (tmp_path / "p").mkdir()
    with pytest.raises(HostLacks, match="'pids'"):
        cgroup.apply("p", cgroup.Limits(pids_max=3), at)
    with pytest.raises(HostLacks, match=r"'memory' can't be used: .*memory.max is missing"):
        cgroup.apply("p", cgroup.Limits(memory_max=1), at)
    assert os.listdir(tmp_path / "p") == []


@pytest.mark.parametrize(("shares", "weight"), [(2, 1), (1024, 39), (262144, 10000), (0, 1)])
def test_the_weight_of_shares(shares: int, weight: int) -> None:
    from podium.linux import limits

    assert limits.weight(shares) == weight


def test_usage_and_oom_from_v2_files(tmp_path: Path) -> None:
    _touch(tmp_path / "p/app")
    (tmp_path / "p/memory.current").write_text("4096\n")
    (tmp_path / "p/cpu.stat").write_text("usage_usec 1500000\nuser_usec 1\n")
    (tmp_path / "p/memory.events").write_text("low 0\noom 0\noom_kill 0\n")
    at = _v2(tmp_path)
    assert cgroup.usage("p", at) == (4096, 1.5)
    assert cgroup.usage("gone", at) == (None, None)
    assert not cgroup.oom_killed("p", at)
    (tmp_path / "p/app/memory.events").write_text("oom_kill 1\n")
    assert cgroup.oom_killed("p", at)
