"""Every data directory that a podium ever wrote: listed, run by the pinned code, and collected, with nothing left."""

from __future__ import annotations

import glob
import os
import subprocess

import pytest

from support import corpus
from support.command import Podium

ARCHIVES = sorted(glob.glob(os.path.join(corpus.FOLDER, "*.tar.xz")))
STATES = {"prepared": "prepared", "exited": "exited-garbage", "crashed": "exited-garbage", "marked": "exited-garbage"}


def test_there_is_one_for_each_format() -> None:
    assert [os.path.basename(a) for a in ARCHIVES] == ["format-1.tar.xz"]


@pytest.fixture(params=ARCHIVES, ids=[os.path.basename(a) for a in ARCHIVES])
def old(request: pytest.FixtureRequest, podium: Podium, test_dir: str) -> Podium:
    argv = [
        "tar",
        "--extract",
        "--xz",
        "--numeric-owner",
        "--xattrs",
        "--preserve-permissions",
        "--file",
        request.param,
    ]
    subprocess.run([*argv, "--directory", test_dir], check=True)
    assert os.path.isdir(podium.dir)
    return podium.using(podium.binary, SAMPLE_TRACE=os.path.join(test_dir, "trace"))


def test_old_data_is_listed_run_and_collected(old: Podium) -> None:
    pods = {pod["name"]: pod for pod in old.pods().values()}
    assert len(pods) == 12
    assert pods.pop("failed")["state"] == "gc-failed"
    for name, pod in pods.items():
        assert pod["state"] == STATES[name.rpartition("-")[2]], name
        assert pod["problem"] is None, name
        assert old.json("status", name)["pod"]["apps"][0]["image"] == "box"
        old("inspect", name)
        old("cat-manifest", name)
    for prefix in ("old", "new", "fly", "nspawn"):
        done = old("run-prepared", f"{prefix}-prepared", check=5)
        assert done.stdout == "ran\n"
    assert [image["name"] for image in old.json("image", "list")["images"]] == ["box"]
    old("image", "verify")
    old("image", "rm", "box", check=4)
    report = old.json("gc", "--grace-period", "0s")
    assert len(report["collected"]) == 12 and not report["failed"]
    sample = {d["via"] for d in report["dispatch"] if d["stage1"] == "sample"}
    assert sample == {"pin"} and {d["via"] for d in report["dispatch"]} <= {"pin", "installed"}
    assert not old.pods()
    old("image", "rm", "box")
