"""Volumes of virtual machines: the same folders and files for all apps; what is read-only is so on the host's side."""

from __future__ import annotations

import os

import pytest

from podium_kvm import sharing
from support.command import Podium

pytestmark = pytest.mark.usefixtures("host_guard")

WRITER = """
mount -o remount,rw /ro; mount -o remount,rw,bind /ro; echo x >/ro/y; echo x >/etc/single
cat /h/before /ro/before /etc/single; echo from-guest >/h/after; stat -c %a.%u.%g /e
echo shared >/e/part; mv /e/part /e/ready; while [ ! -e /t/done ]; do sleep 0.1; done
dd if=/dev/zero of=/t/big bs=64k count=99 2>/dev/null || echo full
"""
READER = "while [ ! -e /in/e/ready ]; do sleep 0.1; done; cat /in/e/ready; cat /in/h/after; echo >/in/t/done"


def test_volumes_are_shared_and_read_only_on_the_host(podium: Podium, busybox_oci: str, test_dir: str) -> None:
    podium("image", "import", busybox_oci, "--name", "box")
    folder, single = os.path.join(test_dir, "a folder"), os.path.join(test_dir, "single")
    os.mkdir(folder)
    for path in (single, os.path.join(folder, "before")):
        with open(path, "w", encoding="utf-8") as f:
            f.write(f"{os.path.basename(path)}\n")
    volumes = (
        *("--volume", f"h,kind=host,source={folder}", "--volume", f"r,kind=host,source={folder},readOnly=true"),
        *("--volume", f"s,kind=host,source={single},readOnly=true"),
        *("--volume", "e,kind=empty,mode=1750,uid=7,gid=8", "--volume", "t,kind=tmpfs,size=1M"),
    )
    targets = {"h": "/h", "r": "/ro", "s": "/etc/single", "e": "/e", "t": "/t"}
    first = [word for name, at in targets.items() for word in ("--mount", f"volume={name},target={at}")]
    second = [word for name in "het" for word in ("--mount", f"volume={name},target=/in/{name}")]
    done = podium(
        *("run", "--stage1", "kvm", "--net", "none", "--rm", *volumes),
        *("box", "--name", "a", *first, "--caps-retain", "CAP_SYS_ADMIN,CAP_DAC_OVERRIDE", "--", "sh", "-c", WRITER),
        *("---", "box", "--name", "b", *second, "--readonly-rootfs", "--", "sh", "-c", READER),
        check=None,
    )
    said = sorted(done.stdout.splitlines())
    wanted = ["before", "before", "single", "1750.7.8", "full", "from-guest", "shared"]
    assert said == sorted(wanted), done.stdout + done.stderr
    assert done.stderr.count("Read-only file system") >= 2, done.stderr
    assert sorted(os.listdir(folder)) == ["after", "before"]
    with open(single, encoding="utf-8") as f:
        assert f.read() == "single\n"
    assert not podium.pods()


def test_both_virtiofsds_are_given_what_they_take() -> None:
    """Debian 12 has the one in C, which the test above runs; from Debian 13 on there is the one in Rust alone."""
    old = sharing.arguments("/v", "virtiofsd version 7.2.22 (Debian 1:7.2)\n", 5, "/a,b=c")
    assert old[:3] == ["/v", "--fd=5", "--rlimit-nofile=0"]
    assert old[3:] == ["-o", "source=/a\\,b=c,sandbox=namespace,cache=auto,announce_submounts"]
    new = sharing.arguments("/v", "virtiofsd 1.13.0\n", 5, "/a,b=c")
    assert new[3:] == ["--shared-dir=/a,b=c", "--sandbox=namespace", "--cache=auto", "--announce-submounts"]
