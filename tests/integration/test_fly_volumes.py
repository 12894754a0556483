"""Volumes under fly, and that no mount of a pod is ever the host's."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator

import pytest

from podium.linux import mount
from support.fly import Fly, files_of, small_rootfs


def _host_mounts() -> list[str]:
    """Without what other processes that test mount meanwhile, which is below their folders, and pinned namespaces."""
    others = re.compile(rf"/podium-tests-\d+/(?!{os.getpid()}/)| - nsfs ")
    with open("/proc/self/mountinfo", encoding="utf-8") as f:
        return [line for line in f.read().splitlines() if not others.search(line)]


@pytest.fixture
def host(fly: Fly) -> str:
    """A folder of the host with a file."""
    folder = os.path.join(fly.dir, "host")
    os.mkdir(folder)
    with open(os.path.join(folder, "file"), "w", encoding="ascii") as f:
        f.write("of the host\n")
    return folder


def _at(target: str, name: str = "v") -> tuple[str, ...]:
    return ("--mount", f"volume={name},target={target}")


def test_a_host_volume_is_written_through(fly: Fly, host: str) -> None:
    volume = f"v,kind=host,source={host}"
    assert fly.out("cat /data/file; echo new > /data/made", *_at("/data"), pod=("--volume", volume)) == "of the host"
    with open(os.path.join(host, "made"), encoding="ascii") as f:
        assert f.read() == "new\n"


def test_a_read_only_host_volume_is_not(fly: Fly, host: str) -> None:
    before = files_of(host)
    volume = f"v,kind=host,source={host},readOnly=true"
    script = (
        "echo x > /data/file; echo x > /data/new; rm /data/file; mount -o remount,rw,bind /data; echo x > /data/new"
    )
    done = fly.run(script, *_at("/data"), "--caps-remove", "SYS_ADMIN", pod=("--volume", volume), check=1)
    assert done.stderr.count("Read-only file system") == 4
    assert files_of(host) == before


def test_a_file_can_be_a_volume(fly: Fly, host: str) -> None:
    volume = f"v,kind=host,source={host}/file,readOnly=true"
    assert fly.out(
        "cat /etc/app.conf; cat /etc/passwd | head -n 1", *_at("/etc/app.conf"), pod=("--volume", volume)
    ) == ("of the host\nroot:x:0:0:root:/root:/bin/sh")
    assert fly.out("cat /etc/passwd", *_at("/etc/passwd"), pod=("--volume", volume)) == "of the host"


@pytest.fixture
def sub_mount(host: str) -> Iterator[str]:
    """`host` with a tmpfs mounted on a folder of it."""
    point = os.path.join(host, "sub")
    os.mkdir(point)
    mount.mount("tmpfs", point, "tmpfs", 0, "size=1m")
    mount.set_propagation(point, mount.MS_SHARED)  # as systemd has all mounts of a host
    with open(os.path.join(point, "deep"), "w", encoding="ascii") as f:
        f.write("deep\n")
    yield host
    mount.umount(point)


def test_a_recursive_volume_has_the_mounts_below_it(fly: Fly, sub_mount: str) -> None:
    pod = ("--volume", f"v,kind=host,source={sub_mount}")
    assert fly.out("cat /data/sub/deep", *_at("/data"), pod=pod) == "deep"
    read_only = ("--volume", f"v,kind=host,source={sub_mount},readOnly=true,recursive=true")
    done = fly.run("echo x > /data/sub/deep", *_at("/data"), pod=read_only, check=1)
    assert "Read-only file system" in done.stderr
    pod = ("--volume", f"v,kind=host,source={sub_mount},recursive=false")
    assert fly.out("ls /data/sub", *_at("/data"), pod=pod) == ""
    with open(os.path.join(sub_mount, "sub/deep"), encoding="ascii") as f:
        assert f.read() == "deep\n"


def test_an_empty_volume(fly: Fly) -> None:
    pod = ("--volume", "v,kind=empty,mode=0750,uid=1000,gid=500")
    script = "stat -c '%a %u %g' /scratch; ls -A /scratch; echo x > /scratch/f && cat /scratch/f"
    assert fly.out(script, *_at("/scratch"), pod=pod).split() == ["750", "1000", "500", "x"]
    assert fly.out("ls -A /scratch", *_at("/scratch"), pod=pod) == ""
    assert fly.out("echo x > /scratch/f && cat /scratch/f", *_at("/scratch"), "--user", "app", pod=pod) == "x"


def test_a_tmpfs_volume(fly: Fly) -> None:
    pod = ("--volume", "v,kind=tmpfs,size=1Mi,mode=1777,uid=1000,gid=500")
    script = (
        "stat -f -c %T /scratch; stat -c '%a %u %g' /scratch; head -c 2000000 /dev/zero > /scratch/f; wc -c /scratch/f"
    )
    done = fly.run(script, *_at("/scratch"), pod=pod)
    assert done.stdout.split() == ["tmpfs", "1777", "1000", "500", "1048576", "/scratch/f"]
    assert "head:" in done.stderr


def test_one_volume_at_two_places(fly: Fly) -> None:
    pod = ("--volume", "v,kind=empty")
    assert fly.out("echo x > /a/f; cat /b/c/f", *_at("/a"), *_at("/b/c"), pod=pod) == "x"


def test_a_volume_below_another_one(fly: Fly, host: str) -> None:
    pod = ("--volume", f"v,kind=host,source={host}", "--volume", "w,kind=empty")
    script = "echo x > /data/inner/f; ls /data /data/inner | tr '\\n' ' '"
    assert fly.out(script, *_at("/data/inner", "w"), *_at("/data"), pod=pod).split() == [
        "/data:", "file", "inner", "/data/inner:", "f",
    ]  # fmt: skip


def test_mount_points_of_the_image(fly: Fly, busybox_rootfs: str, host: str) -> None:
    points = [{"name": "work", "path": "/var/work"}, {"name": "conf", "path": "/conf", "readOnly": True}]
    image = fly.image("test/points", source=busybox_rootfs, mountPoints=points)
    assert (
        fly.out(
            "grep -c ' /var/work \\| /conf ' /proc/self/mountinfo; echo x > /var/work/f && cat /var/work/f", image=image
        )
        == "2\nx"
    )
    pod = ("--volume", f"conf,kind=host,source={host}")
    done = fly.run("cat /conf/file; echo x > /conf/file", pod=pod, image=image, check=1)
    assert done.stdout == "of the host\n" and "Read-only file system" in done.stderr


@pytest.mark.parametrize(
    ("pod", "app", "named"),
    [
        (("--volume", "lost,kind=empty"), (), "'lost'"),
        ((), ("--mount", "volume=nosuch,target=/data"), "'nosuch'"),
        (("--volume", "v,kind=host,source=/no/such/source"), _at("/data"), "/no/such/source"),
        (("--volume", "v,kind=host,source=relative"), _at("/data"), "relative"),
        (("--volume", "v,kind=host"), _at("/data"), "source"),
        (("--volume", "v,kind=strange"), _at("/data"), "strange"),
        (("--volume", "v,kind=empty"), _at("/dev"), "/dev"),
        (("--volume", "v,kind=empty"), _at("/dev/x"), "/dev/x"),
        (("--volume", "v,kind=empty"), _at("/proc/x"), "/proc/x"),
        (("--volume", "v,kind=empty"), _at("/sys"), "/sys"),
        (("--volume", "v,kind=empty"), _at("/data/../dev/shm"), "/dev/shm"),
        (("--volume", "v,kind=empty"), _at("//dev//shm"), "/dev"),
        (("--volume", "v,kind=empty"), _at("/"), "/"),
    ],
)
def test_what_cannot_be_mounted_is_refused_by_name(
    fly: Fly, pod: tuple[str, ...], app: tuple[str, ...], named: str
) -> None:
    assert named in fly.refused(*app, pod=pod)


def test_a_source_that_went_away_after_prepare_is_named(fly: Fly, host: str) -> None:
    gone = os.path.join(host, "gone")
    os.mkdir(gone)
    uuid = fly.prepare("true", *_at("/data"), pod=("--volume", f"v,kind=host,source={gone}"))
    os.rmdir(gone)
    done = fly.podium("run-prepared", uuid, check=125)
    assert gone in done.stderr
    assert fly.status(uuid)["state"] == "exited"


def test_a_target_through_a_link_stays_in_the_rootfs(fly: Fly, busybox_rootfs: str, host: str) -> None:
    victim = os.path.join(fly.dir, "victim")
    os.mkdir(victim)
    links = {"/abs": victim, "/up": f"../../../../../..{victim}", "/loop": "/loop", "/tolink": "abs/below"}
    image = fly.image("test/targets", small_rootfs(os.path.join(fly.dir, "rootfs"), busybox_rootfs, links))
    for target in ("/abs", "/up/x", "/tolink"):
        pod = ("--volume", f"v,kind=host,source={host}")
        assert fly.out(f"cat {target}/file", *_at(target), pod=pod, image=image) == "of the host"
        assert os.listdir(victim) == []
    command = fly.argv("run", "true", *_at("/loop"), pod=("--rm", "--volume", "v,kind=empty"), image=image)
    assert "/loop" in fly.podium(*command, check=125).stderr


_HOSTILE = {
    "to the root": "/",
    "up": "../../../../../../../..",
    "to each other": None,
    "to the host": "HOST",
    "dangling": "/no/such/place",
}


@pytest.mark.parametrize("kind", _HOSTILE)
def test_a_hostile_image_changes_nothing_of_the_host(fly: Fly, busybox_rootfs: str, host: str, kind: str) -> None:
    """Fault 41: /dev, /proc, /sys, /etc and a target that are links."""
    names = ("/dev", "/proc", "/sys", "/etc", "/data")
    target = _HOSTILE[kind]
    links = dict(zip(names, (*names[1:], names[0]), strict=True)) if target is None else dict.fromkeys(names, target)
    links = {name: to.replace("HOST", host) for name, to in links.items()}
    image = fly.image("test/hostile", small_rootfs(os.path.join(fly.dir, "rootfs"), busybox_rootfs, links))
    before, mounts, dev = files_of(host), _host_mounts(), sorted(os.listdir("/dev"))
    pod = ("--volume", f"v,kind=host,source={host},readOnly=true", "--rm")
    fly.podium(*fly.argv("run", "true", *_at("/data"), pod=pod, image=image), check=None)
    assert (files_of(host), _host_mounts(), sorted(os.listdir("/dev"))) == (before, mounts, dev)


def test_no_mount_of_a_pod_is_in_the_hosts_table(fly: Fly, host: str) -> None:
    """Fault 10."""
    before = _host_mounts()
    uuid = fly.start("exec sleep 1000", *_at("/data"), pod=("--volume", f"v,kind=host,source={host}"))
    assert _host_mounts() == before
    fly.podium("enter", uuid, "--", "true")
    assert _host_mounts() == before
    fly.podium("stop", uuid)
    fly.podium("gc", "--grace-period", "0s")
    assert _host_mounts() == before


def test_what_an_app_unmounts_or_mounts_does_not_reach_the_host(fly: Fly, sub_mount: str) -> None:
    before = _host_mounts()
    script = (
        "umount -l /data/sub; umount -l /data; umount -l /sys; mount -t tmpfs x /data; mount -t tmpfs y /dev/shm; true"
    )
    fly.run(script, *_at("/data"), pod=("--volume", f"v,kind=host,source={sub_mount}"))
    assert _host_mounts() == before


def test_a_new_mount_of_the_host_does_not_hold_a_pod_up(fly: Fly, host: str) -> None:
    """The pod's mount namespace keeps no mount of the host alive once the host lets it go (as far as it sees it)."""
    point = os.path.join(fly.dir, "later")
    os.mkdir(point)
    uuid = fly.start("exec sleep 1000")
    mount.mount("tmpfs", point, "tmpfs", 0, "size=1m")
    mount.umount(point)
    assert fly.status(uuid)["state"] == "running"


def test_dev_proc_sys_and_name_resolution_are_the_hosts(fly: Fly) -> None:
    script = "test -c /dev/null && test -d /proc/1 && test -d /sys/class && cat /etc/resolv.conf && cat /etc/hosts"
    wanted = ""
    for path in ("/etc/resolv.conf", "/etc/hosts"):
        with open(path, encoding="utf-8") as f:
            wanted += f.read()
    assert fly.run(script).stdout == wanted
    assert "Read-only" in fly.run("echo x >> /etc/hosts", check=1).stderr
