"""--private-users under nspawn: ids of the pod's own, inside and as the host sees them."""

from __future__ import annotations

import os
import subprocess
import tarfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from podium.linux.idmap import can_map
from podium.sandbox.idrange import COUNT
from support.fly import Fly, until

USERS = ("--net", "none", "--private-users")


@pytest.fixture
def box(fly: Fly) -> Iterator[Fly]:
    if not can_map(fly.rootfs):
        pytest.skip("the kernel or the file system of the tests can't map owners")
    yield fly


def _start(box: Fly, command: str, *options: str, app: tuple[str, ...] = ()) -> str:
    return box.podium.out("run", "-d", *USERS, *options, "box", *app, "--", "-c", command)


def _base(box: Fly, uuid: str) -> int:
    pid = box.app(uuid)["pid"]
    with open(f"/proc/{pid}/uid_map", encoding="ascii") as f:
        inside, outside, count = map(int, f.read().split())
    assert (inside, count) == (0, COUNT) and os.stat(f"/proc/{pid}").st_uid == outside
    return outside


def test_root_inside_is_nobody_s_root_outside(box: Fly) -> None:
    host = os.path.join(box.dir, "host")
    os.mkdir(host)
    os.chmod(host, 0o777)
    with open(os.path.join(host, "of-the-host"), "w") as f:
        f.write("secret")
    os.chmod(f.name, 0o600)
    uuid = _start(
        *(box, "id -u; touch /made /e/made /t/made /h/made; chown 5:6 /e/made; pwd; exec sleep 100"),
        *("--volume", "e,kind=empty,uid=7,mode=0700", "--volume", "t,kind=tmpfs"),
        *("--volume", f"h,kind=host,source={host}"),
        app=(
            *("--mount", "volume=e,target=/e", "--mount", "volume=t,target=/t", "--mount", "volume=h,target=/h"),
            *("--working-dir", "/new/place"),
        ),
    )
    box.logged(uuid, "/new/place")
    assert box.podium.out("logs", uuid).splitlines() == ["0", "/new/place"]
    base = _base(box, uuid)
    enter = ("enter", uuid, "--", "stat", "-c", "%u:%g")
    seen = box.podium.out(*enter, "/", "/bin/sh", "/made", "/e", "/e/made", "/t", "/t/made", "/h/made", "/new/place")
    assert seen.split() == ["0:0", "0:0", "0:0", "7:0", "5:6", "0:0", "0:0", "0:0", "0:0"]
    assert box.podium.out(*enter, "/h/of-the-host").split() == ["65534:65534"]
    denied = box.podium("enter", uuid, "--", "cat", "/h/of-the-host", check=1)
    assert "Permission denied" in denied.stderr
    assert os.stat(os.path.join(host, "made")).st_uid == base
    listed = subprocess.run(
        ["find", box.folder(uuid), host, "-name", "made", "-printf", "%U\n"], capture_output=True, text=True, check=True
    )
    assert sorted(map(int, listed.stdout.split())) == [base, base, base + 5]
    box.podium("stop", uuid)
    exported = os.path.join(box.dir, "rootfs.tar")
    box.podium("export", uuid, exported)
    with tarfile.open(exported) as tar:
        owners = {m.name.removeprefix("./").lstrip("/"): (m.uid, m.gid) for m in tar}
    assert owners["made"] == owners["bin/busybox"] == (0, 0)


def test_enter_is_in_the_same_user_namespace_and_has_no_more_rights(box: Fly) -> None:
    uuid = _start(box, "exec sleep 100", app=("--user", "app", "--caps-retain", "CAP_NET_RAW"))
    pid = box.app(uuid)["pid"]
    assert box.podium.out("enter", uuid, "--", "readlink", "/proc/self/ns/user") == os.readlink(f"/proc/{pid}/ns/user")
    keys = ("Uid", "Gid", "Groups", "CapPrm", "CapEff", "CapBnd")
    inside = box.podium.out("enter", uuid, "--", "cat", "/proc/self/status").splitlines()
    app = box.podium.out("enter", uuid, "--", "cat", f"/proc/{_inside(pid)}/status").splitlines()
    chosen = [[line for line in lines if line.partition(":")[0] in keys] for lines in (inside, app)]
    assert chosen[0] == chosen[1] and len(chosen[0]) == len(keys)
    assert "Uid:\t1000\t1000\t1000\t1000" in chosen[0] and f"CapBnd:\t{1 << 13:016x}" in chosen[0]
    box.podium("stop", uuid)


def _inside(pid: int) -> int:
    with open(f"/proc/{pid}/status", encoding="ascii") as f:
        (line,) = (line for line in f if line.startswith("NSpid:"))
    return int(line.split()[-1])


def test_live_pods_never_share_a_range_and_gc_leaves_none_behind(box: Fly) -> None:
    def start(_: int) -> str:
        return _start(box, "exec sleep 100")

    with ThreadPoolExecutor(4) as pool:
        uuids = list(pool.map(start, range(4)))
    bases = [_base(box, uuid) for uuid in uuids]
    assert len(set(bases)) == 4
    claims = _claims()
    assert {f"@podium/ids/{base}" for base in bases} <= claims
    # A killed supervisor gives nothing back while anything of the pod is left.
    os.kill(box.status(uuids[0])["pid"], 9)
    box.podium("stop", *uuids, check=None)
    box.podium("gc", "--grace-period", "0s")
    assert not box.podium.pods()
    until(lambda: not {f"@podium/ids/{base}" for base in bases} & _claims(), "the ranges to be free")


def _claims() -> set[str]:
    with open("/proc/net/unix", encoding="utf-8") as f:
        return {line.split()[-1] for line in f if "@podium/ids/" in line}


def test_a_range_in_use_is_passed_over(box: Fly) -> None:
    from podium.sandbox.idrange import first_choice

    uuid = box.podium.out("prepare", *USERS, "box", "--", "-c", "exec sleep 100")
    squatter = subprocess.Popen(["sleep", "100"], user=first_choice(uuid) + 77, group=0, extra_groups=[])
    try:
        box.podium("run-prepared", "--detach", uuid)
        assert _base(box, uuid) == first_choice(uuid) + COUNT
        box.podium("stop", uuid)
    finally:
        squatter.kill()
        squatter.wait()
