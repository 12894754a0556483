"""Devices of the host: an app has those of its /dev and those that it is given, and makes itself no others."""

from __future__ import annotations

import os
import stat

import pytest

from support.fly import Fly, small_rootfs


@pytest.fixture
def image(fly: Fly, busybox_rootfs: str) -> str:
    """An image that brings device nodes of its own, of the kind that reads as zeros."""
    rootfs = small_rootfs(os.path.join(fly.dir, "nodes"), busybox_rootfs)
    os.mknod(os.path.join(rootfs, "zero"), stat.S_IFCHR | 0o666, os.makedev(1, 5))
    os.chmod(os.path.join(rootfs, "zero"), 0o666)
    return fly.image("nodes", rootfs)


@pytest.mark.parametrize("readonly", [(), ("--readonly-rootfs",)])
def test_device_nodes_of_an_image_can_t_be_opened(either: Fly, image: str, readonly: tuple[str, ...]) -> None:
    script = "ls -l /zero; head -c 3 /zero || echo refused; head -c 3 /dev/zero | wc -c"
    for user in ("root", "app"):
        done = either.run(script, "--user", user, *readonly, image=image)
        assert done.stdout.startswith("crw-rw-rw-") and done.stdout.split()[-2:] == ["refused", "3"], done.stdout
        assert "/zero: Permission denied" in done.stderr


def test_nodes_are_made_by_those_that_may_and_in_dev_alone(fly: Fly) -> None:
    fly.stage1 = ("--net", "none")
    make = "for at in / /dev/; do mknod ${at}made c 1 5 && head -c 3 ${at}made | wc -c; done"
    done = fly.run(make, check=1)
    assert done.stdout == "" and done.stderr.count("Operation not permitted") == 2
    done = fly.run(make, "--caps-retain", "MKNOD")
    assert done.stdout.split() == ["0", "3"] and done.stderr.count("Permission denied") == 1


def test_volumes_in_dev(fly: Fly) -> None:
    """A device of the host, and a folder that can't be written to; the other app has neither."""
    host = os.path.join(fly.dir, "host")
    os.mkdir(host)
    volumes = ("--volume", "z,kind=host,source=/dev/zero", "--volume", f"h,kind=host,source={host},readOnly=true")
    mounts = ("--mount", "volume=z,target=/dev/sub/given", "--mount", "volume=h,target=/dev/folder")
    script = "head -c 3 /dev/sub/given | wc -c; touch /dev/folder/x || ls /dev/null"
    done = fly.podium(
        *("run", "--rm", "--net", "none"),
        *(*volumes, "box", "--name", "a", *mounts, "--", "-c", script),
        *("---", "box", "--name", "b", "--", "-c", "head -c 3 /dev/sub/given | wc -c"),
    )
    assert sorted(done.stdout.split()) == ["/dev/null", "0", "3"] and "Read-only file system" in done.stderr


@pytest.mark.parametrize("target", ["/dev", "/proc", "/proc/given", "/sys/given"])
def test_volumes_in_what_nspawn_makes_are_refused(fly: Fly, target: str) -> None:
    fly.stage1 = ("--net", "none")
    volume = ("--volume", "v,kind=empty")
    assert f"nspawn makes {target} itself" in fly.refused("--mount", f"volume=v,target={target}", pod=volume)
