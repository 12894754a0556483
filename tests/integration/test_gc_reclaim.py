"""Each reclaimer on a real resource: it lets go of the pod's, and leaves alone what it can't prove to be the pod's."""

from __future__ import annotations

import os
import socket
import subprocess
import time
from collections.abc import Iterator

import pytest

from podium.gc.collector import GcReport
from podium.linux import cgroup, loop, mount, namespaces, procs
from podium.linux.syscalls import umount2
from support.disk import Disk, from_another_boot, hold, sleeper


def released(report: GcReport) -> list[tuple[str, str]]:
    assert report.failed == []
    return [(r.kind, r.by) for r in report.released]


def refused(report: GcReport, reason: str) -> str:
    assert report.collected == [] and [f.reason for f in report.failed] == [reason], report
    return report.failed[0].message


def wait_until_listed(path: str, pid: int) -> None:
    for _ in range(1000):
        if pid in cgroup.procs(path):
            return
        time.sleep(0.01)
    raise AssertionError(f"{pid} never was in {path}")


def test_gc_kills_and_removes_a_cgroup_with_those_in_it(disk: Disk) -> None:
    folder = disk.pod("exited-garbage")
    path = disk.cgroup(os.path.basename(folder))
    hold(folder, "cgroup", path)
    cgroup.create(f"{path}/app/nested")
    with sleeper() as process:
        cgroup.enter(f"{path}/app/nested", process.pid)
        wait_until_listed(path, process.pid)
        assert released(disk.collect()) == [("cgroup", "ledger")]
        assert process.wait(10) == -9
    assert not any(os.path.exists(f) for f in _folders(path)) and disk.uuids() == set()


def _folders(path: str) -> list[str]:
    from podium.linux import hierarchies

    return hierarchies.current().folders(path)


def test_gc_refuses_a_cgroup_that_is_not_named_by_the_pod(disk: Disk) -> None:
    folder = disk.pod()
    foreign = disk.cgroup("somebody")
    cgroup.create(foreign)
    there = [f for f in _folders(foreign) if os.path.isdir(f)]
    assert there
    try:
        hold(folder, "cgroup", foreign)
        assert foreign in refused(disk.collect(), "not-provable")
        assert all(os.path.isdir(f) for f in there)
        assert os.path.exists(disk.data.pod("exited-garbage", os.path.basename(folder)) + "/gc-failed.json")
    finally:
        cgroup.remove(foreign)
    assert len(disk.collect().collected) == 1


def test_gc_refuses_a_cgroup_outside_of_the_hierarchy(disk: Disk) -> None:
    folder = disk.pod()
    hold(folder, "cgroup", f"../{os.path.basename(folder)}")
    refused(disk.collect(), "not-provable")


def test_gc_kills_exactly_the_recorded_process(disk: Disk) -> None:
    folder = disk.pod()
    with sleeper() as process, sleeper() as other:
        identity = procs.identify(process.pid)
        assert identity is not None
        hold(folder, "process", str(process.pid), **identity.to_json())
        reused = procs.identify(other.pid)
        assert reused is not None
        hold(folder, "process", str(other.pid), **reused._replace(start_time=reused.start_time - 1).to_json())
        assert released(disk.collect()) == [("process", "ledger")]
        assert process.wait(10) == -9 and other.poll() is None


def test_gc_unmounts_below_the_pods_folder_wherever_it_was_recorded(disk: Disk) -> None:
    folder = disk.pod()
    target = os.path.join(folder, "stage1", "a mount")
    os.makedirs(target)
    mount.mount("tmpfs", target, "tmpfs")
    mount.mount("tmpfs", target, "tmpfs")  # stacked
    os.mkdir(os.path.join(target, "inner"))
    mount.mount("tmpfs", os.path.join(target, "inner"), "tmpfs")
    hold(folder, "mount", target)
    assert ("mount", "ledger") in released(disk.collect())
    assert disk.uuids() == set()


def test_gc_unmounts_elsewhere_by_recorded_id_only(disk: Disk, outside: str) -> None:
    folder = disk.pod()
    mount.mount("tmpfs", outside, "tmpfs")
    number = mount.read_mountinfo()[-1].id
    hold(folder, "mount", outside, mount_id=number + 1000)
    refused(disk.collect(), "not-provable")
    assert os.path.ismount(outside)
    hold(disk.data.pod("exited-garbage", os.path.basename(folder)), "mount", outside, mount_id=number)
    assert ("mount", "ledger") in released(disk.collect())
    assert not os.path.ismount(outside)


def test_gc_does_not_take_a_shared_copys_mounts_off_the_host(disk: Disk, outside: str) -> None:
    mount.mount("tmpfs", outside, "tmpfs")
    mount.set_propagation(outside, mount.MS_SHARED)
    inner = os.path.join(outside, "inner")
    os.mkdir(inner)
    mount.mount("tmpfs", inner, "tmpfs")
    with open(os.path.join(inner, "sentinel"), "w", encoding="ascii"):
        pass
    try:
        target = os.path.join(disk.pod(), "stage1", "copy")
        os.mkdir(target)
        mount.mount(outside, target, None, mount.MS_BIND | mount.MS_REC)
        assert {kind for kind, _ in released(disk.collect())} == {"mount"}
        assert os.path.exists(os.path.join(inner, "sentinel")) and disk.uuids() == set()
    finally:
        umount2(inner, 2)
        umount2(outside, 2)


def test_gc_says_who_keeps_a_mount_busy_and_collects_once_he_is_gone(disk: Disk) -> None:
    folder = disk.pod("exited-garbage")
    target = os.path.join(folder, "stage1", "busy")
    os.mkdir(target)
    mount.mount("tmpfs", target, "tmpfs")
    process = subprocess.Popen(["sleep", "1000"], cwd=target)
    try:
        assert f"process {process.pid} (sleep)" in refused(disk.collect(), "in-use")
        assert os.path.ismount(target) and process.poll() is None
        assert disk.collect().failed[0].attempts == 2
    finally:
        process.kill()
        process.wait()
    assert disk.collect().failed == [] and disk.uuids() == set()


def test_gc_unpins_a_network_namespace_named_by_the_pod(disk: Disk, outside: str) -> None:
    folder = disk.pod()
    path = os.path.join(outside, f"{os.path.basename(folder)}-x")
    hold(folder, "netns", path, inode=namespaces.pin_netns(path))
    assert released(disk.collect()) == [("netns", "ledger")]
    assert not os.path.exists(path)


def test_gc_refuses_another_network_namespace(disk: Disk, outside: str) -> None:
    folder = disk.pod()
    path = os.path.join(outside, "somebody")
    inode = namespaces.pin_netns(path)
    try:
        hold(folder, "netns", path, inode=inode)
        refused(disk.collect(), "not-provable")
        assert os.stat(path).st_ino == inode
    finally:
        namespaces.unpin_netns(path)


def test_gc_refuses_another_network_namespace_under_the_pods_name(disk: Disk, outside: str) -> None:
    folder = disk.pod()
    path = os.path.join(outside, os.path.basename(folder))
    inode = namespaces.pin_netns(path)
    try:
        hold(folder, "netns", path, inode=inode + 1)
        refused(disk.collect(), "in-use")
        assert os.stat(path).st_ino == inode
    finally:
        namespaces.unpin_netns(path)


@pytest.fixture
def link_name() -> Iterator[str]:
    name = f"pdt{os.getpid() % 100000}"
    subprocess.run(["ip", "link", "add", name, "type", "veth", "peer", "name", name + "p"], check=True)
    yield name
    subprocess.run(["ip", "link", "del", name], check=False, stderr=subprocess.DEVNULL)


def test_gc_deletes_a_link_by_its_alias_only(disk: Disk, link_name: str) -> None:
    folder = disk.pod()
    hold(folder, "link", link_name)
    refused(disk.collect(), "not-provable")
    assert os.path.exists(f"/sys/class/net/{link_name}")
    subprocess.run(["ip", "link", "set", link_name, "alias", f"podium:{os.path.basename(folder)}"], check=True)
    assert released(disk.collect()) == [("link", "ledger")]
    assert not os.path.exists(f"/sys/class/net/{link_name}")


def test_gc_audit_finds_an_unlisted_link(disk: Disk, link_name: str) -> None:
    folder = disk.pod()
    subprocess.run(["ip", "link", "set", link_name, "alias", f"podium:{os.path.basename(folder)}"], check=True)
    assert released(disk.collect()) == [("link", "audit")]


@pytest.mark.parametrize("listed", [True, False])
def test_gc_detaches_a_loop_device_of_the_pods_file(disk: Disk, listed: bool) -> None:
    folder = disk.pod()
    image = os.path.join(folder, "stage1", "image")
    with open(image, "wb") as f:
        f.truncate(1 << 20)
    device, fd = loop.attach(image, read_only=True, autoclear=False)
    os.close(fd)
    if listed:
        hold(folder, "loop", image, device=device)
    assert released(disk.collect()) == [("loop", "ledger" if listed else "audit")]
    assert device not in [found.device for found in loop.attached()]


def test_gc_refuses_a_loop_device_of_another_file(disk: Disk, outside: str) -> None:
    folder = disk.pod()
    image = os.path.join(outside, "image")
    with open(image, "wb") as f:
        f.truncate(1 << 20)
    device, fd = loop.attach(image, read_only=True, autoclear=False)
    os.close(fd)
    status = os.stat(image)
    try:
        hold(folder, "loop", os.path.join(folder, "image"), device=device, st_dev=status.st_dev, st_ino=1)
        refused(disk.collect(), "not-provable")
        assert device in [found.device for found in loop.attached()]
    finally:
        loop.detach(device, (status.st_dev, status.st_ino))


def test_gc_removes_paths_and_sockets_that_are_provably_the_pods(disk: Disk, outside: str) -> None:
    folder = disk.pod()
    uuid = os.path.basename(folder)
    named, numbered, foreign = (os.path.join(outside, name) for name in (f"run-{uuid}", "numbered", "foreign"))
    os.makedirs(os.path.join(named, "deep"))
    for path in (numbered, foreign):
        with socket.socket(socket.AF_UNIX) as sock:
            sock.bind(path)
    status = os.stat(numbered)
    hold(folder, "path", named)
    hold(folder, "socket", numbered, st_dev=status.st_dev, st_ino=status.st_ino)
    hold(folder, "path", os.path.join(folder, "stage1", "mine"))
    hold(folder, "socket", foreign)
    refused(disk.collect(), "not-provable")
    assert os.listdir(outside).count("foreign") == 1
    os.unlink(foreign)
    assert released(disk.collect()) == [("socket", "ledger"), ("path", "ledger")]
    assert os.listdir(outside) == []


@pytest.mark.parametrize("kind", ["address", "frobnicator"])
def test_gc_keeps_a_pod_whose_resource_core_cannot_release(disk: Disk, kind: str) -> None:
    hold(disk.pod(), kind, "10.1.2.3")
    assert kind in refused(disk.collect(), "no-reclaimer")


def test_gc_after_a_reboot_leaves_to_it_what_it_cleared(disk: Disk, outside: str) -> None:
    folder = disk.pod()
    uuid = os.path.basename(folder)
    with sleeper() as process:
        identity = procs.identify(process.pid)
        assert identity is not None
        old = {**identity.to_json(), "boot_id": "00000000-0000-0000-0000-000000000000"}
        hold(folder, "process", str(process.pid), **old)
        hold(folder, "cgroup", disk.cgroup(uuid))
        hold(folder, "mount", os.path.join(folder, "stage1", "gone"))
        hold(folder, "netns", os.path.join(outside, uuid))
        with open(os.path.join(outside, uuid), "w", encoding="ascii"):
            pass  # what is left of a pinned namespace
        from_another_boot(folder)
        assert released(disk.collect()) == [("netns", "ledger")]
        assert process.poll() is None and os.listdir(outside) == [] and disk.uuids() == set()


def test_gc_ends_what_is_rooted_in_a_pod_but_not_who_looks_around(disk: Disk, busybox_rootfs: str) -> None:
    folder = disk.pod()
    root = os.path.join(folder, "stage1", "root")
    subprocess.run(["cp", "-a", busybox_rootfs, root], check=True)
    visitor = subprocess.Popen(["sleep", "1000"], cwd=root)
    borrower = subprocess.Popen([os.path.join(root, "bin/busybox"), "sleep", "1000"])
    with sleeper("chroot", root, "/bin/sleep", "1000") as app:
        try:
            for _ in range(1000):
                if os.readlink(f"/proc/{app.pid}/root") == root:
                    break
                time.sleep(0.01)
            assert released(disk.collect()) == [("process", "audit")]
            assert app.wait(10) == -9
            assert visitor.poll() is None and borrower.poll() is None and disk.uuids() == set()
        finally:
            for process in (visitor, borrower):
                process.kill()
                process.wait()
