"""Faults that others had, under nspawn. PODIUM_TEST_FULL=1 does as many rounds as docs/faults.md's sources did."""

from __future__ import annotations

import os
import resource
import signal
import socket
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from podium.linux import cgroup, hierarchies
from podium.linux.mount import read_mountinfo
from podium.net.attachment import NETNS_FOLDER
from podium.sandbox.idrange import COUNT, first_choice
from support.command import Podium
from support.fly import IMAGE, Fly, small_rootfs, until

FULL = os.environ.get("PODIUM_TEST_FULL") == "1"
FAILING, RESTARTS, RUNS, AT_ONCE = (100, 50, 200, 50) if FULL else (6, 5, 12, 8)


@pytest.fixture
def box(podium: Podium, busybox_rootfs: str, test_dir: str) -> Iterator[Fly]:
    podium("image", "import", busybox_rootfs, "--name", IMAGE, "--exec", "/bin/sh")
    made = Fly(podium, test_dir)
    yield made
    made.end_all()


def _run(box: Fly, *words: str, image: str = "box", check: int | None = 0, pod: tuple[str, ...] = ()) -> str:
    return box.podium("run", "--net", "none", *pod, image, "--", "-c", *words, check=check).stdout.strip()


def _collected(box: Fly) -> None:
    box.podium("gc", "--grace-period", "0s", "--expire-prepared", "0s")
    assert not box.podium.pods()


def test_08_a_host_namespace_made_meanwhile_does_not_keep_the_pod(box: Fly) -> None:
    uuid = _run(box, "exec sleep 1000", pod=("--detach",))
    holder = subprocess.Popen(["unshare", "--mount", "sleep", "1000"])
    try:
        box.podium("stop", uuid)
        _collected(box)
    finally:
        holder.kill()
        holder.wait()


def test_09_a_volume_outlives_its_pod(box: Fly) -> None:
    host = os.path.join(box.dir, "host")
    os.mkdir(host)
    app = ("--volume", f"v,kind=host,source={host}", "box", "--mount", "volume=v,target=/deep/er")
    uuid = box.podium.out(
        "run", "-d", "--net", "none", *app, "--", "-c", "echo kept > /deep/er/sentinel; exec sleep 1000"
    )
    os.kill(box.status(uuid)["pid"], signal.SIGKILL)
    box.podium("rm", "--force", uuid)
    assert not box.podium.pods()
    with open(os.path.join(host, "sentinel"), encoding="ascii") as f:
        assert f.read() == "kept\n"


def _mounts(box: Fly) -> int:
    """Without what other sessions' tests and pods have mounted at this moment: in their folders, and namespaces."""
    own = os.path.dirname(box.dir) + "/"
    theirs = (NETNS_FOLDER, os.path.dirname(os.path.dirname(box.dir)) + "/")
    return len([e for e in read_mountinfo() if e.target.startswith(own) or not e.target.startswith(theirs)])


def test_10_failed_starts_leave_no_mounts(box: Fly) -> None:
    before = _mounts(box)
    for number in range(FAILING):
        # nspawn itself fails by what it is given, a host name longer than the kernel takes; then the app does.
        box.podium("run", "--net", "none", "--hostname", "x" * 65, "box", "--", "-c", "true", check=None)
        box.podium("run", "--net", "none", "box", "--exec", f"/none/{number}", check=127)
    assert _mounts(box) == before
    _collected(box)
    assert _mounts(box) == before


def test_11_no_helper_outlives_its_supervisor(box: Fly) -> None:
    """Before any gc: the placeholder reads from the supervisor, and all processes are in its pid namespace."""
    uuid = _run(box, "setsid sleep 1000 & exec sleep 1001", pod=("--detach",))
    path, supervisor = box.status(uuid)["cgroup"], box.status(uuid)["pid"]
    assert len(cgroup.procs(path)) >= 4  # nspawn, its first process, the placeholder, the apps
    os.kill(supervisor, signal.SIGKILL)
    until(lambda: not cgroup.populated(path), "every process of the pod has ended")
    _collected(box)


def test_12_cgroups_below_the_app_s(box: Fly) -> None:
    uuid = _run(box, "sleep 1001 & sleep 1002 & exec sleep 1003", pod=("--detach",))
    path = box.status(uuid)["cgroup"] + "/box"
    with open(f"/proc/{box.app(uuid)['pid']}/task/{box.app(uuid)['pid']}/children", encoding="ascii") as f:
        child = f.read().split()[0]
    for mount in ("freezer", "pids"):
        folder = hierarchies.current().folder(mount, path)
        assert folder is not None
        os.makedirs(f"{folder}/inner/most")
        hierarchies.write(f"{folder}/inner/most/cgroup.procs", child)
    box.podium("stop", uuid)
    _collected(box)  # and the guard finds none of them


def test_13_nspawn_killed_and_started_again(box: Fly) -> None:
    for _ in range(RESTARTS):
        uuid = _run(box, "exec sleep 1000", pod=("--detach", "--name", "same"))
        with open(f"/proc/{box.status(uuid)['leader']}/stat", encoding="utf-8") as f:
            nspawn = int(f.read().rsplit(")", 1)[1].split()[1])
        os.kill(nspawn, signal.SIGKILL)
        box.podium("wait", "--timeout", "20s", uuid, check=None)
        assert (box.status(uuid)["state"], box.app(uuid)["exit_code"]) == ("exited", 137)
        box.podium("rm", "--force", uuid)
    assert not box.podium.pods()


def test_29_what_is_exhausted_is_named(box: Fly) -> None:
    uuid = box.podium.out("prepare", "--net", "none", "--private-users", "box", "--", "-c", "true")
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(4096, limit[1]), limit[1]))
    taken = []
    try:
        for number in range(1000):
            taken.append(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM))
            base = first_choice(uuid) + number * COUNT
            if base > 0x6FFF0000:
                base -= 0x6FFF0000 + COUNT - 0x80000
            taken[-1].bind(f"\0podium/ids/{base}")
        done = box.podium("run-prepared", uuid, check=None)
        assert done.returncode != 0 and f"no range of {COUNT} user ids is free" in done.stderr
    finally:
        for sock in taken:
            sock.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, limit)
    _collected(box)


def test_31_a_daemon_of_the_app_ends_with_the_pod(box: Fly) -> None:
    uuid = _run(box, "setsid setsid sleep 1000 < /dev/null > /dev/null 2>&1 & sleep 0.2", pod=("--detach",))
    box.ended(uuid)
    _collected(box)


def test_39_what_the_app_made_hard_to_delete(box: Fly) -> None:
    script = (
        "i=0; while [ $i -lt 300 ]; do mkdir d && cd d || exit 1; i=$((i+1)); done; cd /; mkfifo fifo;"
        "mkdir closed closed/in; chmod 0 closed; touch \"$(printf 'new\\nline')\" \"$(printf '\\377')\"; ln -s / link;"
        " ls | wc -l"
    )
    assert int(_run(box, script)) > 5
    _collected(box)


@pytest.mark.parametrize("name", ["/dev", "/proc", "/sys", "/data"])
def test_41_mount_targets_that_are_links(box: Fly, busybox_rootfs: str, name: str) -> None:
    outside = os.path.join(box.dir, "outside")
    os.mkdir(outside)
    rootfs = small_rootfs(os.path.join(box.dir, "linked"), busybox_rootfs, {name: f"/../../../../..{outside}"})
    image = box.image("linked", rootfs)
    app = ("--volume", "v,kind=empty", image, "--mount", "volume=v,target=/data")
    done = box.podium("run", "--net", "none", *app, "--", "-c", "touch /data/made && echo done", check=None)
    assert done.returncode == 0 and done.stdout == "done\n"
    assert os.listdir(outside) == [] and not os.path.ismount(outside)
    _collected(box)


def test_42_no_exit_code_is_lost(box: Fly) -> None:
    def run(number: int) -> int:
        done = box.podium("run", "--rm", "--net", "none", "box", "--", "-c", f"exit {number % 100}", check=None)
        return done.returncode

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(run, range(RUNS))) == [number % 100 for number in range(RUNS)]
    assert not box.podium.pods()


def test_many_pods_started_and_stopped_at_once(box: Fly) -> None:
    with ThreadPoolExecutor(AT_ONCE) as pool:
        uuids = list(pool.map(lambda _: _run(box, "exec sleep 1000", pod=("--detach",)), range(AT_ONCE)))
        assert len(set(uuids)) == AT_ONCE
        assert {pod["state"] for pod in box.podium.pods().values()} == {"running"}
        list(pool.map(lambda uuid: box.podium("stop", uuid), uuids))
    _collected(box)
