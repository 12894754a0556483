"""Podium as it was when each format landed, really run: what one version leaves, the other manages, both ways."""

from __future__ import annotations

import os

import pytest

from podium import __version__, format
from support.command import Podium
from support.distributions import Venv
from support.old_data import COMMITS, sources

STAGE1S = {"fly": ("--net", "host"), "nspawn": ("--net", "none")}
READY = ("box", "--exec", "/bin/sh", "--", "-c", "echo ran; exit 5")
GC = ("gc", "--grace-period", "0s", "--expire-prepared", "0s")
OLDER = sorted(number for number in COMMITS if number < format.VERSION)


def test_every_older_format_has_its_commit() -> None:
    assert list(range(1, format.VERSION)) == OLDER


@pytest.fixture(scope="module", params=OLDER)
def old_binary(request: pytest.FixtureRequest, session_dir: str) -> str:
    """The podium command that landed a format, built from this clone into a venv of its own."""
    folder = os.path.join(session_dir, f"format-{request.param}")
    return Venv.make(os.path.join(folder, "venv"), sources=sources(request.param, os.path.join(folder, "src"))).podium


@pytest.fixture
def old_config(podium: Podium, test_dir: str) -> str:
    """The session's configuration, without what the first podium does not know."""
    path = os.path.join(test_dir, "old.toml")
    with open(podium.config, encoding="utf-8") as new, open(path, "w", encoding="utf-8") as old:
        old.write(new.read().partition("\n[net]")[0] + "\n")
    return path


def _pods(podium: Podium) -> None:
    for stage1, net in STAGE1S.items():
        new = ("--stage1", stage1, *net, "--name")
        podium("prepare", *new, f"{stage1}-ready", *READY)
        podium("run", *new, f"{stage1}-ended", "box", "--exec", "/bin/sh", "--", "-c", "exit 3", check=3)
        podium("run", "-d", *new, f"{stage1}-running", "box", "--exec", "/bin/sleep", "--", "1000")


def _states(podium: Podium) -> dict[str, str]:
    return {pod["name"]: pod["state"] for pod in podium.pods().values() if pod["problem"] is None}


EXPECTED = {
    f"{stage1}-{name}": state
    for stage1 in STAGE1S
    for name, state in (("ready", "prepared"), ("ended", "exited"), ("running", "running"))
}


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


def test_pods_of_an_older_podium(podium: Podium, old_binary: str, old_config: str, busybox_oci: str) -> None:
    old = podium.using(old_binary, old_config)
    old("image", "import", busybox_oci, "--name", "box")
    _pods(old)
    assert _states(podium) == EXPECTED
    images = podium.json("image", "list")["images"]
    assert [image["name"] for image in images] == ["box"] and images[0]["last_used"]
    told = podium("enter", "fly-running", "--", "/bin/echo", "in")
    assert told.stdout == "in\n" and f"format {format.VERSION}" in told.stderr
    assert podium.out("enter", "nspawn-running", "--", "/bin/echo", "in") == "in"
    assert _states(podium) == EXPECTED, "a migration does not touch pods that run"
    assert podium.json("image", "list")["images"][0]["last_used"] == images[0]["last_used"]
    for stage1 in STAGE1S:
        assert podium("run-prepared", f"{stage1}-ready", check=5).stdout == "ran\n"
        assert podium.json("status", f"{stage1}-ended")["pod"]["exit_code"] == 3
        podium("stop", f"{stage1}-running")
    assert podium.json("fsck")["findings"] == []
    report = podium.json(*GC)
    assert len(report["collected"]) == 6 and report["failed"] == []
    podium("image", "rm", "box")


def test_an_older_podium_on_newer_data(podium: Podium, old_binary: str, old_config: str, busybox_oci: str) -> None:
    old = podium.using(old_binary, old_config)
    podium("image", "import", busybox_oci, "--name", "box")
    _pods(podium)
    assert _states(old) == EXPECTED
    assert [image["name"] for image in old.json("image", "list")["images"]] == ["box"]
    old("status", "fly-ended")
    old("inspect", "nspawn-ready")
    before = _files(podium.dir)
    refused = (
        ("run", "--stage1", "fly", "--net", "host", *READY),
        ("run-prepared", "fly-ready"),
        ("enter", "fly-running", "--", "/bin/true"),
        ("prepare", "--stage1", "fly", "--net", "host", *READY),
        ("image", "import", busybox_oci),
        ("image", "gc"),
        ("image", "rm", "box"),
    )
    for words in refused:
        done = old(*words, check=None)
        assert done.returncode in (5, 125), words
        assert "'image-used'" in done.stderr and f"podium {__version__}" in done.stderr, done.stderr
    assert _files(podium.dir) == before, "what was refused changed something"
    for stage1 in STAGE1S:
        old("stop", f"{stage1}-running")
    old("rm", "fly-running", "nspawn-ended")
    report = old.json(*GC)
    assert len(report["collected"]) == 4 and report["failed"] == []
    assert podium.pods() == {} and podium.json("fsck")["findings"] == []
    podium("image", "rm", "box")
