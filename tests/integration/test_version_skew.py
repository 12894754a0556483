"""Podium as it was when each format landed, really run: what one version leaves, the other manages, both ways."""

from __future__ import annotations

import os
import subprocess
from typing import NamedTuple

import pytest

from podium import __version__, format
from support.command import Podium
from support.distributions import REPOSITORY, Venv
from support.old_data import COMMITS, sources

STAGE1S = {"fly": ("--net", "host"), "nspawn": ("--net", "none"), "kvm": ("--net", "none")}
SINCE = {"kvm": 2}  # the first format with pods of it
READY = ("box", "--exec", "/bin/sh", "--", "-c", "echo ran; exit 5")
GC = ("gc", "--grace-period", "0s", "--expire-prepared", "0s")


def test_every_format_has_its_commit() -> None:
    assert list(range(1, format.VERSION + 1)) == sorted(COMMITS)


def test_a_clone_without_history_says_what_it_lacks(test_dir: str) -> None:
    """A shallow one, as a CI service may make it: not a skip, and not an error that nobody understands."""
    shallow, whole = os.path.join(test_dir, "shallow"), os.path.join(test_dir, "whole")
    for depth, target in ((["--depth", "1"], shallow), (["--no-tags"], whole)):
        subprocess.run(["git", "clone", "-q", *depth, f"file://{REPOSITORY}", target], check=True)
    with pytest.raises(AssertionError, match="git fetch --unshallow"):
        sources(1, os.path.join(test_dir, "none"), shallow)
    for number in COMMITS:
        made = sources(number, os.path.join(test_dir, f"sources-{number}"), whole)
        assert os.path.isfile(os.path.join(made, "core/podium/format.py"))


class Old(NamedTuple):
    """The podium that a format was frozen with, on the data directory of the test, and the stage1s that both have."""

    podium: Podium
    format: int
    stage1s: tuple[str, ...]


@pytest.fixture(scope="module", params=sorted(COMMITS))
def built(request: pytest.FixtureRequest, session_dir: str) -> tuple[int, str]:
    """A format, and the podium command that was at work when it was frozen, built from this clone into a venv."""
    folder = os.path.join(session_dir, f"format-{request.param}")
    venv = Venv.make(os.path.join(folder, "venv"), sources=sources(request.param, os.path.join(folder, "src")))
    return request.param, venv.podium


@pytest.fixture
def old(podium: Podium, built: tuple[int, str], test_dir: str) -> Old:
    """With the session's configuration, without what the first podium does not know."""
    number, binary = built
    path = os.path.join(test_dir, "old.toml")
    with open(podium.config, encoding="utf-8") as new, open(path, "w", encoding="utf-8") as config:
        config.write(new.read().partition("\n[net]")[0] + "\n")
    stage1s = tuple(stage1 for stage1 in STAGE1S if SINCE.get(stage1, 1) <= number)
    if number == format.VERSION:
        stage1s = ("fly", "kvm")  # what is new since the formats before
    return Old(podium.using(binary, path), number, stage1s)


def _pods(podium: Podium, stage1s: tuple[str, ...]) -> None:
    for stage1 in stage1s:
        net = STAGE1S[stage1]
        new = ("--stage1", stage1, *net, "--name")
        podium("prepare", *new, f"{stage1}-ready", *READY)
        podium("run", *new, f"{stage1}-ended", "box", "--exec", "/bin/sh", "--", "-c", "exit 3", check=3)
        podium("run", "-d", *new, f"{stage1}-running", "box", "--exec", "/bin/sleep", "--", "1000")


def _states(podium: Podium) -> dict[str, str]:
    return {pod["name"]: pod["state"] for pod in podium.pods().values() if pod["problem"] is None}


def _expected(stage1s: tuple[str, ...]) -> dict[str, str]:
    states = {"ready": "prepared", "ended": "exited", "running": "running"}
    return {f"{stage1}-{name}": state for stage1 in stage1s for name, state in states.items()}


def _files(root: str) -> dict[str, bytes]:
    """The truth: everything but caches, the index and what is only locked."""
    found = {}
    for top, folders, files in os.walk(root):
        folders[:] = [
            f for f in folders if os.path.join(top, f) not in (f"{root}/cache", f"{root}/locks", f"{root}/trees")
        ]
        for name in files:
            path = os.path.join(top, name)
            if os.path.isfile(path) and not name.startswith("index.db"):
                with open(path, "rb") as f:
                    found[path] = f.read()
    return found


def test_pods_of_an_older_podium(podium: Podium, old: Old, busybox_oci: str) -> None:
    old.podium("image", "import", busybox_oci, "--name", "box")
    _pods(old.podium, old.stage1s)
    expected = _expected(old.stage1s)
    assert _states(podium) == expected
    images = podium.json("image", "list")["images"]
    assert [image["name"] for image in images] == ["box"] and images[0]["last_used"]
    told = podium("enter", "fly-running", "--", "/bin/echo", "in")
    assert told.stdout == "in\n" and (f"format {format.VERSION}" in told.stderr) == (old.format < format.VERSION)
    for stage1 in old.stage1s:
        assert podium.out("enter", f"{stage1}-running", "--", "/bin/echo", "in") == "in"
    assert _states(podium) == expected, "a migration does not touch pods that run"
    assert podium.json("image", "list")["images"][0]["last_used"] == images[0]["last_used"]
    refused = podium("kill", "--app", "box", "--signal", "USR1", "fly-running", check=2)
    assert "can't signal one app alone" in refused.stderr
    for stage1 in old.stage1s:
        assert podium("run-prepared", f"{stage1}-ready", check=5).stdout == "ran\n"
        assert podium.json("status", f"{stage1}-ended")["pod"]["exit_code"] == 3
        podium("stop", f"{stage1}-running")
    assert podium.json("fsck")["findings"] == []
    report = podium.json(*GC)
    assert len(report["collected"]) == len(expected) and report["failed"] == []
    podium("image", "rm", "box")


def test_an_older_podium_on_newer_data(podium: Podium, old: Old, busybox_oci: str) -> None:
    """It does what the flags allow, and of the same format all."""
    podium("image", "import", busybox_oci, "--name", "box")
    _pods(podium, old.stage1s)
    expected = _expected(old.stage1s)
    assert _states(old.podium) == expected
    assert [image["name"] for image in old.podium.json("image", "list")["images"]] == ["box"]
    old.podium("status", "fly-ended")
    old.podium("inspect", f"{old.stage1s[-1]}-ready")
    if old.format < format.VERSION:
        _is_refused(podium, old.podium, busybox_oci)
    else:
        for stage1 in old.stage1s:
            assert old.podium.out("enter", f"{stage1}-running", "--", "/bin/echo", "in") == "in"
            assert old.podium("run-prepared", f"{stage1}-ready", check=5).stdout == "ran\n"
    for stage1 in old.stage1s:
        old.podium("stop", f"{stage1}-running")
    old.podium("rm", "fly-running", f"{old.stage1s[-1]}-ended")
    report = old.podium.json(*GC)
    assert len(report["collected"]) == len(expected) - 2 and report["failed"] == []
    assert podium.pods() == {} and podium.json("fsck")["findings"] == []
    podium("image", "rm", "box")


def _is_refused(podium: Podium, old: Podium, image: str) -> None:
    before = _files(podium.dir)
    refused = (
        ("run", "--stage1", "fly", "--net", "host", *READY),
        ("run-prepared", "fly-ready"),
        ("enter", "fly-running", "--", "/bin/true"),
        ("prepare", "--stage1", "fly", "--net", "host", *READY),
        ("image", "import", image),
        ("image", "gc"),
        ("image", "rm", "box"),
    )
    for words in refused:
        done = old(*words, check=None)
        assert done.returncode in (5, 125), words
        assert "'image-used'" in done.stderr and f"podium {__version__}" in done.stderr, done.stderr
    assert _files(podium.dir) == before, "what was refused changed something"
