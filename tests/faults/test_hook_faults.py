"""Fault 44: hooks that hang, fail or take down who calls them cost no pod anything, and no event."""

from __future__ import annotations

import json
import os

import pytest

from support.command import Podium
from support.fly import until
from support.hooks import configure, lines

FLY = ("--stage1", "fly", "--net", "host", "box")
GC = ("gc", "--grace-period", "0s")


@pytest.fixture
def hooks(podium: Podium, busybox_rootfs: str, test_dir: str) -> str:
    """The folder of the TOML hooks; there is an image `box` that sleeps."""
    podium("image", "import", busybox_rootfs, "--name", "box", "--exec", "/bin/sleep")
    return configure(podium, test_dir)


def _hook(folder: str, name: str, script: str, events: str = "") -> None:
    with open(os.path.join(folder, f"{name}.toml"), "w", encoding="utf-8") as f:
        f.write(f'command = {json.dumps(["/bin/sh", "-c", script])}\ntimeout = "60s"\n{events}\n')


def test_44_hooks_that_hang_or_fail_block_nothing(podium: Podium, hooks: str, test_dir: str) -> None:
    release, seen = os.path.join(test_dir, "release"), os.path.join(test_dir, "seen")
    _hook(hooks, "1-hangs", f"until [ -e {release} ]; do sleep 0.1; done", 'events = ["pod-prepared"]')
    _hook(hooks, "2-fails", "echo broken >&2; exit 4", 'events = ["pod-exited"]')
    _hook(hooks, "3-sees", f"cat >> {seen}")
    try:
        uuid = podium.out("run", "--detach", *FLY, "--", "1000")
        podium("stop", "--force", uuid)
        kept = podium.out("run", "--detach", *FLY, "--", "0")
        podium("wait", kept)
        assert lines(seen) == []  # the first hook of the first event hangs still
    finally:
        with open(release, "w", encoding="ascii"):
            pass
    until(lambda: [e["kind"] for e in lines(seen)].count("pod-exited") == 2, "the last event")
    log = [json.loads(line) for line in podium("events", "--format", "json").stdout.splitlines()]
    assert [e["id"] for e in lines(seen)] == [e["id"] for e in log if e["kind"] != "image-imported"]
    (failure,) = podium.json("inspect", kept)["hook_failures"]
    assert (failure["consumer"], failure["message"], failure["stderr"]) == (
        "hook 2-fails",
        "it ended with 4",
        "broken\n",
    )
    podium(*GC)
    assert podium.pods() == {}
    until(lambda: lines(seen)[-1]["kind"] == "pod-collected", "the last event")


def test_44_a_killed_delivery_loses_no_event(podium: Podium, hooks: str, test_dir: str) -> None:
    once, seen = os.path.join(test_dir, "once"), os.path.join(test_dir, "seen")
    _hook(hooks, "1-sees", f"cat >> {seen}")
    # Its parent is who delivers.
    _hook(hooks, "2-kills", f"mkdir {once} 2>/dev/null && kill -9 $PPID; true", 'events = ["pod-started"]')
    podium("run", *FLY, "--", "0")
    until(lambda: os.path.isdir(once), "the kill")
    podium(*GC)
    until(lambda: any(e["kind"] == "pod-collected" for e in lines(seen)), "the last event")
    log = [json.loads(line) for line in podium("events", "--format", "json").stdout.splitlines()]
    ids = [e["id"] for e in lines(seen)]
    assert list(dict.fromkeys(ids)) == [e["id"] for e in log if e["kind"] != "image-imported"]
    assert [i for i in ids if ids.count(i) > 1] == [i for i in ids if i.endswith(":started")]
