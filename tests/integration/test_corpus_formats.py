"""Every data directory that a podium ever wrote: listed, run and entered by the pinned code, and collected, wholly."""

from __future__ import annotations

import glob
import hashlib
import json
import os
import subprocess
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest

from podium import format, records
from podium.errors import HostLacks
from podium.linux import kernel_image
from podium.paths import DataDir
from podium.sandbox import kernels
from support import corpus, network
from support.command import Podium
from support.old_data import alone, unpack

BOX = "box"
ALL = {BOX, "example.com/aci", "docker", "folder", "tar"}


class Archive(NamedTuple):
    """A data directory of the corpus: its format, the pods' first names, how many pods, and the images' names."""

    format: int
    prefixes: set[str]
    pods: int
    images: set[str]


ARCHIVES = {
    "format-1": Archive(1, {"old", "new", "fly", "nspawn"}, 12, {BOX}),
    "format-2": Archive(2, {"old", "new", "fly", "nspawn", "net"}, 29, ALL),
    "format-2-kvm": Archive(2, {"kvm"}, 6, ALL),
    "format-2-relay": Archive(2, {"kvm"}, 6, ALL),
    "format-2-created": Archive(2, {"fly"}, 5, ALL),
}
# By the last word of a pod's name.
STATES = {
    "prepared": "prepared",
    "homeless": "prepared",
    "exited": "exited",
    "crashed": "exited",
    "marked": "exited-garbage",
}
GARBAGE = {"exited": "exited-garbage", "crashed": "exited-garbage"}  # format 1 has them marked
RUNS = "echo ran; read line; exit 5"
USUAL_BRIDGE = "podium0"  # of the pods that were prepared with a network, as they have it written down


def test_there_is_one_for_each_format() -> None:
    found = {os.path.basename(path).removesuffix(".tar.xz") for path in glob.glob(f"{corpus.FOLDER}/*.tar.xz")}
    assert found == ARCHIVES.keys()
    assert {archive.format for archive in ARCHIVES.values()} == {*range(1, format.VERSION + 1)}


@pytest.fixture(params=ARCHIVES)
def name(request: pytest.FixtureRequest) -> str:
    assert isinstance(request.param, str)
    return request.param


@pytest.fixture
def old(name: str, podium: Podium, test_dir: str) -> Iterator[Podium]:
    with alone():
        unpack(name, test_dir)
        assert os.path.isdir(podium.dir)
        kept = network.has_bridge(USUAL_BRIDGE)
        yield podium.using(podium.binary, SAMPLE_TRACE=os.path.join(test_dir, "trace"))
        if not kept:  # else it is the host's own
            network.remove_bridge(USUAL_BRIDGE)


def _wait_for_a_line(podium: Podium, name: str) -> None:
    """Pods of format 1 end at once; the manifest is no frozen record, so they can be told to wait for a line."""
    path = os.path.join(podium.json("inspect", name)["path"], "pod")
    with open(path, encoding="utf-8") as f:
        manifest = json.load(f)
    assert manifest["apps"][0]["app"]["exec"][-2:] == ["-c", "echo ran; exit 5"]
    manifest["apps"][0]["app"]["exec"][-1] = RUNS
    with open(path, "w", encoding="utf-8") as f:
        f.write(json.dumps(manifest) + "\n")


def _run_and_enter(podium: Podium, name: str) -> None:
    with podium.start("run-prepared", name, stdin=subprocess.PIPE) as process:
        deadline = time.monotonic() + 60
        while process.poll() is None and podium.json("status", name)["pod"]["apps"][0]["state"] != "running":
            assert time.monotonic() < deadline, f"{name} does not start"
            time.sleep(0.05)
        entered = podium("enter", name, "--", "echo", "in", check=None)
        out, err = process.communicate("line\n", timeout=60)
    assert (entered.returncode, entered.stdout) == (0, "in\n"), entered.stderr
    assert (process.returncode, out) == (5, "ran\n"), err


def _give_back_the_kernel(data: DataDir) -> bool:
    """Put the guests' kernel back, which is not packed, if this machine's is the very same; returns whether it is."""
    (folder,) = glob.glob(os.path.join(data.kernels, "sha256-*"))
    try:
        with open(kernels.choose(), "rb") as f:
            content = kernel_image.vmlinux(f.read(), f.name)
    except HostLacks:
        return False
    wanted = records.read(os.path.join(folder, "kernel.json"))["files"]["vmlinux"]
    if "sha256:" + hashlib.sha256(content).hexdigest() != wanted:
        return False
    with open(os.path.join(folder, "vmlinux"), "wb") as f:
        f.write(content)
    return True


def _lists_all(old: Podium, archive: Archive) -> dict[str, Any]:
    pods = {pod["name"]: pod for pod in old.pods().values()}
    assert len(pods) == archive.pods
    for name, pod in pods.items():
        kind = name.rpartition("-")[2]
        old("inspect", name)
        old("cat-manifest", name)
        assert old.json("status", name)["pod"]["apps"][0]["image"] == BOX
        if kind == "failed":
            assert pod["state"] == "gc-failed"
            continue
        assert pod["state"] == (STATES | (GARBAGE if archive.format == 1 else {}))[kind], name
        assert pod["problem"] is None, name
    return pods


def _is_collected(old: Podium, archive: Archive, number: int) -> None:
    """All of them, by the code that answers for each, and after it all that they needed."""
    report = old.json("gc", "--grace-period", "0s", "--expire-prepared", "0s")
    assert len(report["collected"]) == number and not report["failed"]
    sample = {d["via"] for d in report["dispatch"] if d["stage1"] == "sample"}
    assert sample <= {"pin"} and {d["via"] for d in report["dispatch"]} <= {"pin", "installed"}
    assert not old.pods()
    for name in archive.images:
        old("image", "rm", name)
    old("image", "gc", "--grace-period", "0s")
    assert old.json("fsck")["findings"] == []


def test_old_data_is_listed_run_entered_and_collected(old: Podium, name: str) -> None:
    archive = ARCHIVES[name]
    pods = _lists_all(old, archive)
    if "kvm" in archive.prefixes:
        told = old("run-prepared", "kvm-homeless", check=125).stderr
        assert "kernel sha256:" in told and "is missing" in told
        assert _findings(old) == {"kernel-damaged"}
        runs = _give_back_the_kernel(DataDir(old.dir))
        if runs:
            assert _findings(old) == set()
    else:
        runs = True
        assert _findings(old) <= {"kernel-missing"}, "format 2 has kvm pods that have ended, and no kernels"
    for prefix in archive.prefixes if runs else ():
        if archive.format == 1:
            _wait_for_a_line(old, f"{prefix}-prepared")
        _run_and_enter(old, f"{prefix}-prepared")
    assert {image["name"] for image in old.json("image", "list")["images"]} == archive.images
    old("image", "verify")
    old("image", "rm", BOX, check=4)
    _is_collected(old, archive, len(pods))
    if not runs:
        pytest.skip("the guest of the corpus was not run: this machine has another kernel than the one that it needs")


def _findings(old: Podium) -> set[str]:
    return {found["kind"] for found in old.json("fsck", check=None)["findings"] if found["damage"]}
