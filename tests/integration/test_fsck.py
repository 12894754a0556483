"""fsck finds each damage by name, repairs what can be made anew, and deletes nothing."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from podium.paths import DataDir
from podium.store import index
from support.command import Podium
from support.damage import podium_forked
from support.snapshot import Scope
from support.stopped import stopped_at
from support.store_damage import CASES, UUID, content, pod, write

FLY = ("--stage1", "fly", "--net", "host")


@pytest.fixture(scope="module")
def base(session_dir: str, config_file: str, scope: Scope, busybox_oci: str) -> Iterator[str]:
    """A data directory with an image, a pod that is prepared and one that has ended."""
    made = Podium(os.path.join(session_dir, "fsck-base"), config_file, scope)
    made("image", "import", busybox_oci, "--name", "box")
    made("prepare", *FLY, "--name", "ready", "box", "--exec", "/bin/echo", "--", "ran")
    made("run", *FLY, "--name", "ended", "box", "--exec", "/bin/sh", "--", "-c", "exit 3", check=3)
    yield made.dir
    made("gc", "--grace-period", "0s", "--expire-prepared", "0s")
    shutil.rmtree(made.dir)


def _copy(base: str, podium: Podium) -> DataDir:
    subprocess.run(["cp", "--archive", base, podium.dir], check=True)
    data = DataDir(podium.dir)
    index.survey(data)  # it knows the copies' inodes now
    return data


@pytest.fixture
def data(base: str, podium: Podium) -> DataDir:
    return _copy(base, podium)


def _kinds(report: Any) -> set[str]:
    return {found["kind"] for found in report["findings"]}


# Repairs after which a pod is run, to see that they are good.
RUN_AFTER = {
    "nothing",
    "format lost",
    "tree altered",
    "tree without record",
    "tree missing",
    "pin altered",
    "pin missing",
}


def _fsck(podium: Podium, code: int, *words: str) -> Any:
    done = podium_forked(podium.argv("fsck", "--format", "json", *words)[1:])
    assert done.code == code, f"fsck {words} exited {done.code}\n{done.out}\n{done.err}"
    return json.loads(done.out)


def _try(data: DataDir, podium: Podium, case: str) -> None:
    apply, kinds, damage, mended = CASES[case]
    apply(data)
    before = content(data.root)
    found = _fsck(podium, 6 if damage else 0)
    assert _kinds(found) == kinds
    assert all(f["message"] and f["advice"] for f in found["findings"])
    assert content(data.root) == before, "a check changed something"
    assert _kinds(_fsck(podium, 6 if damage and not mended else 0, "--repair")) == kinds
    after = content(data.root)
    gone = {path for path, was in before.items() if was and was not in after.values()}
    assert not gone, "a repair deleted something"
    if mended:
        assert _fsck(podium, 0)["findings"] == []
        assert case not in RUN_AFTER or podium.out("run-prepared", "ready") == "ran"
    elif kinds <= {"pod-envelope", "pod-ledger", "pod-manifest", "pod-record"}:
        podium("gc", "--grace-period", "0s", "--expire-prepared", "0s")
        assert podium.pods() == {} and _fsck(podium, 0)["findings"] == []


def test_damage_is_found_and_repaired(base: str, podium: Podium) -> None:
    """In memory, where nothing waits for a disk, and a copy goes with its mount."""
    failed = []
    os.mkdir(podium.dir)
    for case in CASES:
        subprocess.run(["mount", "-t", "tmpfs", "tmpfs", podium.dir], check=True)
        try:
            _try(_copy(base + "/.", podium), podium, case)
        except AssertionError as e:
            failed.append(f"{case}: {e}")
        finally:
            subprocess.run(["umount", podium.dir], check=True)
    assert not failed, "\n".join(failed)


@pytest.mark.parametrize("case", ["blob flipped", "image record flipped"])
def test_what_is_lost_comes_back_with_the_image(data: DataDir, podium: Podium, busybox_oci: str, case: str) -> None:
    CASES[case][0](data)
    told = podium("fsck", "--repair", check=6).stdout
    assert "to do: import" in told
    podium("image", "import", busybox_oci, "--name", "box")
    assert podium.json("fsck")["findings"] == []
    assert podium.out("run-prepared", "ready") == "ran"


def test_nothing_is_taken_from_who_is_at_work(data: DataDir, podium: Podium) -> None:
    import fcntl

    held = [os.path.join(data.tmp, "image-2-b"), data.pod("embryo", UUID)]
    fds = []
    for path in held:
        os.mkdir(path)
        fds.append(os.open(path, os.O_RDONLY))
        fcntl.flock(fds[-1], fcntl.LOCK_EX)
    write(os.path.join(data.images, f".tmp-{os.getpid()}-a"))
    try:
        assert podium.json("fsck", "--repair")["findings"] == []
        assert all(map(os.path.isdir, held))
    finally:
        for fd in fds:
            os.close(fd)


def test_a_pod_that_is_collected_meanwhile_is_no_damage(data: DataDir, podium: Podium) -> None:
    fsck = stopped_at(podium, "fsck:pod", "fsck", "--format", "json")
    podium("rm", "ready", "ended")
    fsck.send_signal(signal.SIGCONT)
    out, err = fsck.communicate(timeout=20)
    assert (fsck.returncode, json.loads(out)["findings"], err) == (0, [], "")


def test_pod_manifest_fault_has_its_place(data: DataDir, podium: Podium) -> None:
    folder = pod(data, "ready")
    with open(os.path.join(folder, "pod"), "r+b") as f:
        broken = f.read().replace(b'"apps"', b'\n"apps"').replace(b'"image"', b'"image" oops')
        f.seek(0)
        f.write(broken)
    (found,) = podium.json("fsck", check=6)["findings"]
    for part in (os.path.basename(folder), "from box", "appc 0.8", "line 2", "column "):
        assert part in found["message"]


def test_there_has_to_be_a_data_directory(podium: Podium) -> None:
    assert "no data directory" in podium("fsck", check=3).stderr
    assert not os.path.exists(podium.dir)
