"""Every data directory that a podium ever wrote: listed, run and entered by the pinned code, and collected, wholly."""

from __future__ import annotations

import glob
import json
import os
import re
import subprocess
import time
from collections.abc import Iterator

import pytest

from podium import format
from support import corpus, network
from support.command import Podium
from support.old_data import unpack

FORMATS = sorted(int(re.sub(r"\D", "", os.path.basename(a))) for a in glob.glob(f"{corpus.FOLDER}/format-*.tar.xz"))
# By the last word of a pod's name.
STATES = {"prepared": "prepared", "exited": "exited", "crashed": "exited", "marked": "exited-garbage"}
GARBAGE = {"exited": "exited-garbage", "crashed": "exited-garbage"}  # format 1 has them marked
PREFIXES = {1: {"old", "new", "fly", "nspawn"}, 2: {"old", "new", "fly", "nspawn", "net"}}
PODS = {1: 12, 2: 29}
IMAGES = {1: {"box"}, 2: {"box", "example.com/aci", "docker", "folder", "tar"}}
RUNS = "echo ran; read line; exit 5"
USUAL_BRIDGE = "podium0"  # of the pods that were prepared with a network, as they have it written down


def test_there_is_one_for_each_format() -> None:
    assert list(range(1, format.VERSION + 1)) == FORMATS


@pytest.fixture(params=FORMATS)
def number(request: pytest.FixtureRequest) -> int:
    assert isinstance(request.param, int)
    return request.param


@pytest.fixture
def old(number: int, podium: Podium, test_dir: str) -> Iterator[Podium]:
    unpack(number, test_dir)
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


def test_old_data_is_listed_run_entered_and_collected(old: Podium, number: int) -> None:
    pods = {pod["name"]: pod for pod in old.pods().values()}
    assert len(pods) == PODS[number]
    for name, pod in pods.items():
        kind = name.rpartition("-")[2]
        old("inspect", name)
        old("cat-manifest", name)
        assert old.json("status", name)["pod"]["apps"][0]["image"] == "box"
        if kind == "failed":
            assert pod["state"] == "gc-failed"
            continue
        assert pod["state"] == (STATES | (GARBAGE if number == 1 else {}))[kind], name
        assert pod["problem"] is None, name
    damage = {found["kind"] for found in old.json("fsck", check=None)["findings"] if found["damage"]}
    assert damage <= {"kernel-missing"}, "the corpus has no guest's kernel"
    for prefix in PREFIXES[number]:
        if number == 1:
            _wait_for_a_line(old, f"{prefix}-prepared")
        _run_and_enter(old, f"{prefix}-prepared")
    assert {image["name"] for image in old.json("image", "list")["images"]} == IMAGES[number]
    old("image", "verify")
    old("image", "rm", "box", check=4)
    report = old.json("gc", "--grace-period", "0s")
    assert len(report["collected"]) == len(pods) and not report["failed"]
    sample = {d["via"] for d in report["dispatch"] if d["stage1"] == "sample"}
    assert sample == {"pin"} and {d["via"] for d in report["dispatch"]} <= {"pin", "installed"}
    assert not old.pods()
    for name in IMAGES[number]:
        old("image", "rm", name)
    assert old.json("fsck")["findings"] == []
