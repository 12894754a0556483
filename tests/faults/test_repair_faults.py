"""Fault 1 in `fsck --repair`: killed at each of its steps, it is done again, and nothing is lost."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator

import pytest

from podium.paths import DataDir
from podium.store import index
from podium.testing.checks.leaks import reached
from support import sweep, tracer
from support.command import Podium
from support.damage import podium_forked
from support.injections import on_copies, traced
from support.snapshot import Scope
from support.store_damage import CASES, content
from support.tracer import Call, Fault

FLY = ("--stage1", "fly", "--net", "host")
AT_ONCE = (
    *("format empty", "index truncated", "blob nobody needs", "use of an image that is gone", "tree altered"),
    *(
        "erofs without record",
        "half a tree",
        "pin altered",
        "half a pin",
        "embryo",
        "workspace",
        "half a record",
        "erofs of no tree",
    ),
    *("kernel without record", "a file in a pod's place"),
)
IN_CI = 4


@pytest.fixture(scope="module")
def damaged(session_dir: str, config_file: str, scope: Scope, busybox_oci: str) -> Iterator[str]:
    """A data directory with a pod, and all the damage that a repair mends; must not be changed."""
    made = Podium(os.path.join(session_dir, "repair"), config_file, scope)
    made("image", "import", busybox_oci, "--name", "box")
    made("prepare", *FLY, "--name", "ready", "box", "--exec", "/bin/echo", "--", "ran")
    data = DataDir(made.dir)
    for case in AT_ONCE:
        apply, _, _, mended = CASES[case]
        assert mended
        apply(data)
    yield made.dir
    shutil.rmtree(made.dir)


def _copy(damaged: str, podium: Podium) -> DataDir:
    if os.path.exists(podium.dir):
        shutil.rmtree(podium.dir)
    subprocess.run(["cp", "--archive", damaged, podium.dir], check=True)
    return DataDir(podium.dir)


def test_01_a_repair_that_is_killed_is_done_again(damaged: str, podium: Podium, test_dir: str) -> None:
    log = os.path.join(test_dir, "points")
    data = _copy(damaged, podium)
    podium.using(podium.binary, PODIUM_TRACE_LOG=log)("fsck", "--repair")
    assert podium.json("fsck")["findings"] == []
    points = reached(log)
    kinds = {kind for case in AT_ONCE for kind in CASES[case][1]}
    assert {f"fsck:repaired:{kind}#1" for kind in kinds} <= {*points}, "something was not repaired"
    wrong = []
    row = "SIGKILL at a trace point of fsck --repair"
    for point in sweep.todo(row, points, IN_CI):
        data = _copy(damaged, podium)
        before = content(data.root)
        podium.using(podium.binary, PODIUM_TRACE_KILL=point)("fsck", "--repair", check=-9)
        fault = _fault_after(podium, data, before)
        if fault is not None:
            wrong.append(f"{point}: {fault}")
        sweep.record(row, point, fault)
    assert not wrong, "\n".join(wrong)


@pytest.mark.skipif(not tracer.SUPPORTED, reason="the tracer knows the registers of x86_64 alone")
def test_28_a_call_of_a_repair_fails(damaged: str, podium: Podium) -> None:
    def copy() -> Callable[[], str | None]:
        data = _copy(damaged, podium)
        before = content(data.root)
        return lambda: _fault_after(podium, data, before)

    wrong = on_copies("fsck --repair", podium, ("fsck", "--repair"), 1, copy)
    assert not wrong, "\n".join(wrong)


def _fault_after(podium: Podium, data: DataDir, before: dict[str, bytes]) -> str | None:
    """What is wrong after the next repair: it mends all, keeps every byte, and the pod runs."""
    for words in (("fsck", "--repair"), ("fsck", "--format", "json")):
        done = podium_forked(podium.argv(*words)[1:])
        if done.code:
            return f"{words} exited {done.code}: {done.out}{done.err}"
    if json.loads(done.out)["findings"]:
        return f"found again: {done.out}"
    kept = {*content(data.root).values()}
    gone = sorted(path for path, was in before.items() if was and was not in kept)
    if gone:
        return f"deleted: {gone}"
    ran = podium("run-prepared", "ready", check=None)
    return None if ran.stdout == "ran\n" else f"the pod does not run: {ran}"


def test_the_index_is_that_of_the_records_after_it(damaged: str, podium: Podium) -> None:
    """Killed between the files of the index: what is left of it leads nobody astray."""
    data = _copy(damaged, podium)
    for ending in ("-wal", "-journal"):
        with open(data.index + ending, "wb") as f:
            f.write(b"not this index'")
    podium.using(podium.binary, PODIUM_TRACE_KILL="fsck:moved#2")("fsck", "--repair", check=-9)
    podium("fsck", "--repair")
    assert index.fault(data) is None
    assert [image["name"] for image in podium.json("image", "list")["images"]] == ["box"]


@pytest.mark.skipif(not tracer.SUPPORTED, reason="the tracer knows the registers of x86_64 alone")
@pytest.mark.parametrize("what", ["/blobs/shaN/N", "/images/N.json", "/stageN/shaN-N/pin.json"])
def test_28_what_can_not_be_opened_for_a_moment_stays_in_its_place(podium: Podium, busybox_oci: str, what: str) -> None:
    podium("image", "import", busybox_oci, "--name", "box")
    podium("prepare", *FLY, "box", "--exec", "/bin/true")
    with traced(podium, ("fsck", "--repair"), Fault(Call(f"start openat {what}", 1), errno.EMFILE)) as done:
        assert done.code == 6
    assert done.hit() is not None
    assert podium.json("fsck")["findings"] == []
    podium("image", "verify")


@pytest.mark.skipif(not tracer.SUPPORTED, reason="the tracer knows the registers of x86_64 alone")
@pytest.mark.parametrize(
    "call",
    [
        "tree:unpacked rename /tmp/image-N-N/tree /lost+found/N-N-NTN-NZ/trees/N-N",
        "fsck:move renameat2 /lost+found/N-N-NTN-NZ/trees/N-N /trees/N-N",
        "fsck:moved openat /lost+found/N-N-NTN-NZ/trees",
    ],
)
def test_28_an_altered_tree_is_not_gone_when_its_repair_fails(podium: Podium, busybox_oci: str, call: str) -> None:
    podium("image", "import", busybox_oci, "--name", "box")
    podium("prepare", *FLY, "--name", "ready", "box", "--exec", "/bin/echo", "--", "ran")
    data = DataDir(podium.dir)
    CASES["tree altered"][0](data)
    before = content(data.root)
    with traced(podium, ("fsck", "--repair"), Fault(Call(call, 1), errno.ENOSPC)) as done:
        assert done.code == 6
    assert done.hit() is not None
    assert _fault_after(podium, data, before) is None
