"""The rootfs of an app under fly: its own, over a tree that never changes."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from support.fly import Fly, files_of


def _trees(fly: Fly) -> str:
    return files_of(os.path.join(fly.podium.dir, "trees"))


def test_what_an_app_writes_is_its_own(fly: Fly) -> None:
    fly.run("true")
    before = _trees(fly)
    one = fly.start("echo one > /file; rm /etc/hostname; chmod 700 /tmp; echo ready; exec sleep 1000")
    two = fly.start("echo ready; exec sleep 1000")
    for uuid in (one, two):
        fly.logged(uuid, "ready")
    assert fly.podium.out("enter", one, "--", "cat", "/file") == "one"
    fly.podium("enter", one, "--", "test", "-e", "/etc/hostname", check=1)
    fly.podium("enter", two, "--", "test", "-e", "/file", check=1)
    fly.podium("enter", two, "--", "test", "-e", "/etc/hostname")
    assert fly.podium.out("enter", two, "--", "stat", "-c", "%a", "/tmp") == "1777"
    fly.podium("stop", one, two)
    fly.podium("gc", "--grace-period", "0s")
    assert _trees(fly) == before


def test_the_root_has_the_images_owner_and_mode(fly: Fly) -> None:
    assert fly.out("stat -c '%a %u %g' / /tmp /root /home/app").splitlines() == [
        "755 0 0", "1777 0 0", "700 0 0", "750 1000 1000",
    ]  # fmt: skip


def test_the_app_cannot_reach_the_hosts_root_by_its_path(fly: Fly) -> None:
    assert (
        fly.out("ls -d /var/../../../.. | head -n 1; test -e /proc/self/root/bin/busybox && echo chrooted")
        == "/var/../../../..\nchrooted"
    )
    fly.run(f"test -e {fly.podium.dir}", check=1)


@pytest.mark.parametrize("user", ["root", "app"])
def test_a_read_only_rootfs(fly: Fly, user: str) -> None:
    options = ("--readonly-rootfs", "--user", user, "--mount", "volume=v,target=/made/here")
    done = fly.run(
        "echo x > /tmp/x; mkdir /x; echo x > /made/here/x && cat /made/here/x; rm /etc/hostname",
        *options,
        pod=("--volume", "v,kind=empty,mode=0777"),
        check=1,
    )
    assert done.stdout == "x\n" and done.stderr.count("Read-only file system") == 3


def test_a_read_only_rootfs_has_dev_proc_and_sys(fly: Fly) -> None:
    assert (
        fly.out("echo gone > /dev/null; test -d /proc/1 -a -d /sys/class && echo there", "--readonly-rootfs") == "there"
    )


def test_where_no_overlay_can_be_the_tree_is_copied_and_that_is_said(fly: Fly) -> None:
    """The data directory on an overlay, in a mount namespace of its own."""
    script = f"""
set -e
mount --make-rprivate /
cd {fly.dir}
mkdir lower tmp merged
mount -t tmpfs scratch tmp
mkdir tmp/upper tmp/work
mount -t overlay overlay -o lowerdir=lower,upperdir=tmp/upper,workdir=tmp/work merged
export PODIUM_DIR=$PWD/merged/data
podium() {{ "{fly.podium.binary}" --config "{fly.podium.config}" "$@"; }}
podium image import "$1" --name box --exec /bin/sh
podium run --stage1 fly --name one box -- -c 'echo one > /file; cat /file; rm /etc/hostname; exit 7' || echo "code $?"
podium run --rm --stage1 fly box -- -c 'test ! -e /file && test -e /etc/hostname && echo untouched'
podium run --rm --stage1 fly box --readonly-rootfs -- -c 'touch /x' || echo "read-only $?"
podium export one "$PWD/out.tar"
podium gc --grace-period 0s
podium list --no-legend
"""
    image = os.path.join(fly.dir, "..", "busybox")
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", script, "sh", image],
        env=fly.podium.environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    words = done.stdout.split("\n")
    assert words[1:5] == ["one", "code 7", "untouched", "read-only 1"], done.stdout
    assert "copied" in done.stderr
    listing = subprocess.run(
        ["tar", "-tf", os.path.join(fly.dir, "out.tar")], capture_output=True, text=True, check=True
    ).stdout.split()
    assert "./file" in listing and "./etc/hostname" not in listing


def test_a_data_directory_with_an_odd_name(fly: Fly) -> None:
    """Fault 27."""
    odd = fly.podium.using(fly.podium.binary)
    odd.dir = os.path.join(fly.dir, "a: b,c\\d\n=é")
    fly.podium = odd
    odd("image", "import", os.path.join(fly.dir, "..", "busybox"), "--name", "box", "--exec", "/bin/sh")
    assert fly.out("echo x > /file; cat /file") == "x"
    link = os.path.join(fly.dir, "link")
    os.symlink(odd.dir, link)
    odd.dir = link
    assert fly.out("echo y > /file; cat /file") == "y"
    assert sys.executable
