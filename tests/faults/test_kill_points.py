"""Fault 1: podium is killed at every step that changes the world; one gc later the host is as it was."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable

import pytest

from support.command import Podium
from support.snapshot import Scope, settled, snapshot

FLY = ("--stage1", "fly", "--net", "host")
GC = ("gc", "--grace-period", "0s", "--expire-prepared", "0s")
# Nothing but its cgroup ends the first sleep when the supervisor is killed.
SLEEP = ("box", "--exec", "/bin/sh", "--", "-c", "sleep 1000 & sleep 1000")


class Act:
    """The podium command that a scenario is about: once all its trace points are logged, then it is killed at each."""

    def __init__(self, podium: Podium, *, killed: bool) -> None:
        self._podium = podium
        self._killed = killed

    def __call__(self, *words: str, code: int = 0) -> None:
        self._podium(*words, check=None if self._killed else code)


class Host:
    """One data directory with an image, on which pods come and go."""

    def __init__(self, podium: Podium, rootfs: str, folder: str) -> None:
        self.podium = podium
        self.rootfs = rootfs
        self.folder = folder

    def prepare(self, *words: str) -> str:
        return self.podium.out("prepare", *FLY, *(words or SLEEP))

    def start(self, *words: str) -> str:
        return self.podium.out("run", "--detach", *FLY, *(words or SLEEP))

    def exited(self) -> str:
        uuid = self.start("box", "--exec", "/bin/true")
        self.podium("wait", uuid)
        return uuid

    def abandoned(self) -> None:
        """A pod whose supervisor was killed before it could clear up: its ledger lists what it holds."""
        dying = self.podium.using(self.podium.binary, PODIUM_TRACE_KILL="run:ended")
        dying("run", *FLY, "box", "--exec", "/bin/true", check=125)


def _prepare(host: Host, act: Act) -> None:
    act("prepare", *FLY, "--name", "web", *SLEEP)


def _run(host: Host, act: Act) -> None:
    act("run", *FLY, "box", "--exec", "/bin/true")


def _run_removed(host: Host, act: Act) -> None:
    act("run", "--rm", *FLY, "box", "--exec", "/bin/true")


def _run_failing(host: Host, act: Act) -> None:
    act("run", *FLY, "box", "--exec", "/no/such", code=127)


def _run_detached(host: Host, act: Act) -> None:
    act("run", "--detach", *FLY, *SLEEP)
    for uuid, pod in host.podium.pods().items():
        if pod["problem"] is None:  # its supervisor lives; where it was killed, gc has to end what it left
            host.podium("stop", uuid, check=None)


def _run_detached_removed(host: Host, act: Act) -> None:
    act("run", "--detach", "--rm", *FLY, "box", "--exec", "/bin/true")
    for uuid in host.podium.pods():
        host.podium("wait", uuid, check=None)


def _run_prepared(host: Host, act: Act) -> None:
    uuid = host.prepare("box", "--exec", "/bin/true")
    act("run-prepared", uuid)


def _run_prepared_detached(host: Host, act: Act) -> None:
    uuid = host.prepare()
    act("run-prepared", "--detach", uuid)
    host.podium("stop", uuid, check=None)


def _stop(host: Host, act: Act) -> None:
    uuid = host.start()
    act("stop", uuid)
    host.podium("stop", uuid)


def _stop_forced(host: Host, act: Act) -> None:
    uuid = host.start()
    act("stop", "--force", uuid)
    host.podium("stop", uuid)


def _gc(host: Host, act: Act) -> None:
    host.abandoned()
    host.prepare()
    act(*GC)


def _rm(host: Host, act: Act) -> None:
    act("rm", host.exited())


def _rm_forced(host: Host, act: Act) -> None:
    uuid = host.start()
    act("rm", "--force", uuid)
    if uuid in host.podium.pods():
        host.podium("stop", uuid, check=None)


def _import(host: Host, act: Act) -> None:
    """Of an image that is new each time, or nothing would be rendered."""
    with open(os.path.join(host.rootfs, "number"), "a", encoding="ascii") as f:
        f.write("1\n")
    act("image", "import", host.rootfs, "--name", "other", "--exec", "/bin/true")


SCENARIOS: dict[str, Callable[[Host, Act], None]] = {
    scenario.__name__.lstrip("_"): scenario
    for scenario in (
        *(_prepare, _run, _run_removed, _run_failing, _run_detached, _run_detached_removed),
        *(_run_prepared, _run_prepared_detached, _stop, _stop_forced, _gc, _rm, _rm_forced, _import),
    )
}
# What several scenarios have in common is killed in one of them: points of the others begin with one of these.
BEGINS: dict[str, tuple[str, ...]] = {
    "run": ("run:",),
    "run_removed": ("gc:mark", "gc:delet"),
    "run_failing": ("run:prepared", "run:ended", "run:finished"),
    "run_detached": ("run:",),
    "run_detached_removed": ("run:ended", "run:finished", "gc:mark", "gc:delet"),
    "run_prepared": ("run:moved", "run:supervisor"),
    "run_prepared_detached": ("run:moved", "run:supervisor", "run:started"),
    "rm_forced": ("call:", "run:"),
}


@pytest.fixture
def host(podium: Podium, busybox_rootfs: str, test_dir: str) -> Host:
    small = os.path.join(test_dir, "rootfs")
    os.makedirs(os.path.join(small, "bin"))
    for name in ("busybox", "true", "sleep", "sh"):
        shutil.copy2(os.path.join(busybox_rootfs, "bin", name), os.path.join(small, "bin"), follow_symlinks=False)
    podium("image", "import", small, "--name", "box", "--exec", "/bin/true")
    return Host(podium, small, test_dir)


def _points(log: str) -> list[str]:
    """What a log of trace points lists, each as PODIUM_TRACE_KILL names it: the Nth of a process."""
    points: dict[str, None] = {}
    seen: dict[tuple[str, str], int] = {}
    with open(log, encoding="utf-8") as f:
        for line in f:
            _, pid, point = line.rstrip("\n").split(" ", 2)
            seen[pid, point] = seen.get((pid, point), 0) + 1
            points[f"{point}#{seen[pid, point]}"] = None
    return list(points)


@pytest.mark.parametrize("name", SCENARIOS)
def test_01_killed_at_every_point(host: Host, name: str, scope: Scope, data_dir: str) -> None:
    podium, scenario = host.podium, SCENARIOS[name]
    log = os.path.join(host.folder, "points")
    scenario(host, Act(podium.using(podium.binary, PODIUM_TRACE_LOG=log), killed=False))
    _let_end(podium)
    podium(*GC)
    points = [point for point in _points(log) if point.startswith(BEGINS.get(name, ("",)))]
    assert points, "no trace point was reached"
    folders = [os.path.join(data_dir, part) for part in ("pods", "tmp")]
    before = snapshot(folders)
    wrong = []
    for point in points:
        scenario(host, Act(podium.using(podium.binary, PODIUM_TRACE_KILL=point), killed=True))
        _let_end(podium)
        collected = podium(*GC, check=None)
        pods = podium.json("list")["pods"]
        left = settled(before, scope, folders)
        if collected.returncode or pods or left:
            wrong.append(
                f"{point}: gc exited {collected.returncode} {collected.stderr}, {pods}\n  " + "\n  ".join(left)
            )
            before = snapshot(folders)
    assert not wrong, "\n".join(wrong)
    assert podium.out("run", "--rm", *FLY, "box", "--exec", "/bin/busybox", "--", "echo", "fine") == "fine"


def _let_end(podium: Podium) -> None:
    """Whoever works on the data directory ends by himself: a supervisor whose client was killed, the rm of --rm."""
    deadline = time.monotonic() + 20
    while any(podium.dir in process.command for process in snapshot(()).processes.values()):
        assert time.monotonic() < deadline, "a supervisor lives on"
        time.sleep(0.01)
