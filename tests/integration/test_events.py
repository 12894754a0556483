"""Events: one life of a pod as the log, a TOML hook and an event plugin see it; and podium killed around an event."""

from __future__ import annotations

import json
import os
import subprocess
import time
from typing import Any

import pytest

from podium import records
from support.command import Podium
from support.distributions import Venv, make_plugin_dist
from support.fly import until
from support.hooks import configure, lines

LIFE = ["pod-prepared", "pod-started", "app-exited", "pod-exited", "pod-marked", "pod-collected"]
GC = ("gc", "--grace-period", "0s", "--expire-prepared", "0s")
PLUGIN = """
import json
from podium.hookspecs import hookimpl

def _write(event):
    with open({path!r}, "a") as f:
        f.write(json.dumps(event) + "\\n")

@hookimpl
def podium_pod_started(event):
    raise RuntimeError("told you so")

""" + "\n".join(
    f"@hookimpl\ndef podium_{kind}(event):\n    _write(event)\n"
    for kind in ("image_imported", "pod_prepared", "app_exited", "pod_exited", "pod_marked", "pod_collected")
)


def _events(podium: Podium, *args: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in podium("events", *args, "--format", "json").stdout.splitlines()]


def _hook(folder: str, name: str, script: str, more: str = "") -> None:
    with open(os.path.join(folder, f"{name}.toml"), "w", encoding="utf-8") as f:
        f.write(f"command = {json.dumps(['/bin/sh', '-c', script])}\n{more}\n")


@pytest.mark.parametrize(("stage1", "net"), [("fly", "host"), ("nspawn", "host"), ("kvm", "none")])
def test_a_hook_and_a_plugin_see_one_life_in_order_once_each(
    podium: Podium, busybox_rootfs: str, test_dir: str, stage1: str, net: str
) -> None:
    folder, seen, told = configure(podium, test_dir), os.path.join(test_dir, "seen"), os.path.join(test_dir, "told")
    wheel = make_plugin_dist(
        os.path.join(test_dir, "dist"), "event-sample", "1.0", PLUGIN.format(path=told), group="podium.hooks"
    )
    podium = podium.using(Venv.make(os.path.join(test_dir, "venv"), wheel).podium)
    _hook(folder, "all", f"cat >> {seen}")
    _hook(folder, "hangs", "echo stuck >&2; sleep 1000", 'timeout = "0.2s"\nevents = ["pod-exited"]')
    _hook(folder, "other", f"cat >> {seen}", '[filter]\nstage1 = "no-such"')
    namespaces = os.path.join(test_dir, "namespaces")
    _hook(folder, "where", f"readlink /proc/self/ns/mnt >> {namespaces}")
    podium("image", "import", busybox_rootfs, "--name", "box", "--exec", "/bin/true")
    podium("run", "--stage1", stage1, "--net", net, "box")
    podium(*GC)
    log = _events(podium)
    assert [e["kind"] for e in log] == ["image-imported", *LIFE]
    assert len({e["id"] for e in log}) == len(log)
    until(lambda: any(e["kind"] == "pod-collected" for e in lines(told)), "the last event at the plugin")
    assert [e["id"] for e in lines(seen)] == [e["id"] for e in log]
    assert [e["kind"] for e in lines(told)] == [e["kind"] for e in log if e["kind"] != "pod-started"]
    with open(namespaces, encoding="ascii") as f:
        assert set(f.read().split()) == {os.readlink("/proc/self/ns/mnt")}  # of the host, not of a supervisor
    hooks = podium.json("hooks", "list")
    failed = {f["consumer"]: f for f in hooks["failures"]}
    assert set(failed) == {"hook hangs", "plugin event-sample"}
    assert failed["hook hangs"]["stderr"] == "stuck\n" and "killed" in failed["hook hangs"]["message"]
    assert "told you so" in failed["plugin event-sample"]["stderr"]


NEVER_RUN = ["pod-prepared", "pod-marked", "pod-collected"]
NOT_STARTED = ["pod-prepared", "pod-exited", "pod-marked", "pod-collected"]


@pytest.mark.parametrize(
    ("verb", "point", "life"),
    [
        ("run", "prepare:prepared", NEVER_RUN),
        ("prepare", "event:due", NEVER_RUN),
        ("prepare", "event:logged", NEVER_RUN),
        ("prepare", "event:noted", NEVER_RUN),
        ("run", "run:moved", NOT_STARTED),
        ("run", "event:due", LIFE),
        ("run", "run:ended", LIFE),
        ("run", "run:finished", LIFE),
    ],
)
def test_a_kill_between_transition_and_event_loses_none(
    podium: Podium, busybox_rootfs: str, verb: str, point: str, life: list[str]
) -> None:
    podium("image", "import", busybox_rootfs, "--name", "box", "--exec", "/bin/true")
    dying = podium.using(podium.binary, PODIUM_TRACE_KILL=point)
    dying(verb, "--stage1", "fly", "--net", "host", "box", check=None)
    _all_seen_by_the_next(podium, life)


@pytest.mark.parametrize("point", ["event:due", "event:logged", "event:noted", "event:due#2", "event:logged#2"])
def test_a_kill_of_the_supervisor_loses_none(podium: Podium, busybox_rootfs: str, point: str) -> None:
    podium("image", "import", busybox_rootfs, "--name", "box", "--exec", "/bin/true")
    uuid = podium.out("prepare", "--stage1", "fly", "--net", "host", "box")
    podium.using(podium.binary, PODIUM_TRACE_KILL=point)("run-prepared", uuid, check=None)
    _all_seen_by_the_next(podium, LIFE)


def _all_seen_by_the_next(podium: Podium, life: list[str]) -> None:
    for _ in range(2):
        podium(*GC)
    # Before `events`, which would itself make good what is still due.
    assert podium.pods() == {}
    kinds = {e["id"]: e["kind"] for e in _events(podium)}
    assert list(kinds.values()) == ["image-imported", *life]


@pytest.mark.parametrize("point", ["gc:marked", "gc:deleting", "gc:deleted", "event:due", "event:logged"])
def test_a_kill_of_gc_loses_no_event(podium: Podium, busybox_rootfs: str, point: str) -> None:
    podium("image", "import", busybox_rootfs, "--name", "box", "--exec", "/bin/true")
    podium("run", "--stage1", "fly", "--net", "host", "box")
    podium.using(podium.binary, PODIUM_TRACE_KILL=point)(*GC, check=-9)
    podium(*GC)
    kinds = {e["id"]: e["kind"] for e in _events(podium)}
    assert list(kinds.values()) == ["image-imported", *LIFE]


@pytest.mark.parametrize("point", ["event:intended", "image:named", "event:image-due", "event:image-logged"])
def test_a_kill_of_an_import_loses_no_event(podium: Podium, busybox_rootfs: str, point: str) -> None:
    words = ("image", "import", busybox_rootfs, "--name", "box", "--exec", "/bin/true")
    podium.using(podium.binary, PODIUM_TRACE_KILL=point)(*words, check=-9)
    there = len(podium.json("image", "list")["images"])
    assert len({e["id"] for e in _events(podium)}) == there
    podium(*words)
    podium("image", "rm", "box")
    assert [*{e["id"]: e["kind"] for e in _events(podium)}.values()] == ["image-imported", "image-removed"]


def test_stop_is_an_event_and_follow_is_woken(podium: Podium, busybox_rootfs: str) -> None:
    podium("image", "import", busybox_rootfs, "--name", "box", "--exec", "/bin/sleep")
    follower = podium.start("events", "--follow", "--filter", "kind=pod-stopped", "--format", "json")
    try:
        uuid = podium.out("run", "--detach", "--stage1", "fly", "--net", "host", "box", "--", "1000")
        podium("stop", "--force", uuid)
        assert follower.stdout is not None
        assert json.loads(follower.stdout.readline())["subject"] == uuid
    finally:
        follower.kill()
        follower.communicate()
    assert [e["kind"] for e in _events(podium, "--filter", f"subject={uuid}")][-2:] == ["pod-exited", "pod-stopped"]


def test_who_follows_sleeps_until_inotify_wakes_it(podium: Podium, busybox_rootfs: str) -> None:
    podium("image", "import", busybox_rootfs, "--name", "box", "--exec", "/bin/true")
    follower = podium.start("events", "--follow")
    try:
        assert follower.stdout is not None
        assert "image-imported" in follower.stdout.readline()
        called = f"/proc/{follower.pid}/syscall"
        until(lambda: _blocked_on(follower.pid, called) == "anon_inode:inotify", "it reads from inotify")
        with open(called, encoding="ascii") as f:
            before = f.read()
        switches = _switches(follower.pid)
        podium("list")  # writes no event
        time.sleep(1.0)
        assert _switches(follower.pid) == switches, "it woke although nothing had happened"
        with open(called, encoding="ascii") as f:
            assert f.read() == before
        podium("image", "rm", "box")
        assert "image-removed" in follower.stdout.readline()
    finally:
        follower.kill()
        follower.communicate()


def _blocked_on(pid: int, called: str) -> str:
    """The file that a process reads from and waits for."""
    with open(called, encoding="ascii") as f:
        number, _, rest = f.read().partition(" ")
    if number != "0":  # read(2) of x86-64, which has no time limit
        return ""
    return os.readlink(f"/proc/{pid}/fd/{int(rest.split()[0], 16)}")


def _switches(pid: int) -> str:
    with open(f"/proc/{pid}/status", encoding="ascii") as f:
        return next(line for line in f if line.startswith("voluntary_ctxt_switches"))


def test_a_hook_is_told_of_what_its_filters_let_through(podium: Podium, busybox_rootfs: str, test_dir: str) -> None:
    folder, words = configure(podium, test_dir), ("run", "--stage1", "fly", "--net", "host")
    filters = {
        "every": "",
        "stage1": 'stage1 = ["nspawn", "fl?"]',
        "other": 'stage1 = "nspawn"',
        "name": 'name = "web-*"',
        "image": 'image = "bo*"',
        "code": "exit_code = [1, 2]",
        "label": 'label = {team = "w*"}',
        "labels": 'label = {team = ["x", "web"], kind = "db"}',
        "all": 'exit_code = 1\nlabel = {team = "web"}',
    }
    for name, lines_of in filters.items():
        _hook(folder, name, f"cat >> {test_dir}/{name}", f'events = ["pod-exited"]\n[filter]\n{lines_of}')
    podium("image", "import", busybox_rootfs, "--name", "box", "--exec", "/bin/sh")
    labels = ("--label", "team=web")
    podium(*words, "--name", "web-1", *labels, "box", "--", "-c", "exit 1", check=1)
    podium(*words, "--name", "db", *labels, "--label", "kind=db", "box", "--", "-c", "exit 2", check=2)
    podium(*words, "--name", "other", "--label", "team=shop", "box", "--", "-c", "exit 0")
    until(lambda: len(lines(f"{test_dir}/every")) == 3, "everything is delivered")
    # Hooks are run one after the other, by name, so each has been told of all but the last pod's end.
    until(lambda: len(lines(f"{test_dir}/stage1")) == 3, "everything is delivered")
    seen = {name: [event["details"]["name"] for event in lines(f"{test_dir}/{name}")] for name in filters}
    both, three = ["web-1", "db"], ["web-1", "db", "other"]
    some = {"other": [], "code": both, "label": both, "name": ["web-1"], "labels": ["db"], "all": ["web-1"]}
    assert seen == {"every": three, "stage1": three, "image": three, **some}


def test_half_a_line_and_damage_cost_one_event(podium: Podium, busybox_rootfs: str) -> None:
    podium("image", "import", busybox_rootfs, "--name", "box", "--exec", "/bin/true")
    with open(os.path.join(podium.dir, "events", "log"), "ab") as f:
        f.write(b'{"schema":"podium.event/1","id":"ha')
    podium("image", "rm", "box")
    assert [(e["kind"], e["seq"]) for e in _events(podium)] == [("image-imported", 1), ("image-removed", 2)]


def test_hooks_test_says_what_is_wrong(podium: Podium, test_dir: str, busybox_rootfs: str) -> None:
    folder = configure(podium, test_dir)
    podium("image", "import", busybox_rootfs, "--name", "box", "--exec", "/bin/true")
    _hook(folder, "good", 'grep -q pod-exited && test "$A" = b', '[environment]\nA = "b"')
    _hook(folder, "bad", "echo why >&2; exit 3")
    _hook(folder, "odd", "true", 'eventz = ["x"]')
    podium("hooks", "test", "good")
    assert "why" in podium("hooks", "test", "bad", check=1).stderr
    assert "eventz" in podium("hooks", "test", "odd", check=2).stderr
    podium("hooks", "test", "none", check=None)
    assert "eventz" in podium("hooks", "list").stderr


def test_python_api_is_lazy_and_sees_events(podium: Podium, busybox_rootfs: str) -> None:
    script = (
        "import sys, podium; assert 'podium.runtime' not in sys.modules\n"
        "r = podium.Runtime(sys.argv[1], sys.argv[2])\n"
        "r.import_image(sys.argv[3], name='box', exec=['/bin/true'])\n"
        "print([e.kind for e in r.events()])\n"
    )
    python = os.path.join(os.path.dirname(podium.binary), "python")
    done = subprocess.run(
        [python, "-c", script, podium.dir, podium.config, busybox_rootfs], capture_output=True, text=True, check=True
    )
    assert done.stdout == "['image-imported']\n"


def test_a_damaged_count_of_restarts_does_not_keep_gc_busy(podium: Podium, busybox_rootfs: str) -> None:
    podium("image", "import", busybox_rootfs, "--name", "box", "--exec", "/bin/true")
    podium("run", "--stage1", "fly", "--net", "host", "box")
    (uuid,) = podium.pods()
    folder = podium.json("inspect", uuid)["path"]
    path = os.path.join(folder, "status", "box.json")
    with open(path, "wb") as f:
        f.write(records.seal({"name": "box", "state": "exited", "exit_code": 0, "restarts": 1 << 62}) + b"\n")
    podium(*GC)
    assert [e["kind"] for e in _events(podium, "--filter", f"subject={uuid}")].count("app-exited") <= 17
    assert podium.pods() == {}


def test_each_end_of_an_app_that_is_started_again_is_an_event(podium: Podium, busybox_rootfs: str) -> None:
    podium("image", "import", busybox_rootfs, "--name", "box", "--exec", "/bin/sh")
    script = "test -e /second && exit 0; test -e /first && touch /second; touch /first; exit 5"
    uuid = podium.out(
        *("run", "--detach", "--stage1", "fly", "--net", "host", "box", "--restart", "on-failure", "--", "-c", script)
    )
    podium("wait", uuid)
    ends = [e["details"] for e in _events(podium, "--filter", "kind=app-exited")]
    assert [(e["app"], e["restarts"], e["exit_code"]) for e in ends] == [("box", 0, 5), ("box", 1, 5), ("box", 2, 0)]
