"""Fault 1: podium is killed at every step that changes the world; one gc later the host is as it was."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest

from podium.testing.checks.leaks import reached
from support import sweep
from support.command import Podium
from support.crashes import FLY, GC, IMAGE_GC, SLEEP, Act, Host
from support.rest import resting_or_gone
from support.snapshot import Scope


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
    for pod in host.pods():
        if pod["problem"] is None:  # its supervisor lives; where it was killed, gc has to end what it left
            host.forked("stop", pod["uuid"], check=None)


def _run_detached_removed(host: Host, act: Act) -> None:
    act("run", "--detach", "--rm", *FLY, "box", "--exec", "/bin/true")
    for pod in host.pods():
        host.forked("wait", pod["uuid"], check=None)


def _run_rested(host: Host, act: Act) -> None:
    """Its supervisor goes to rest, goes on for the signal, and ends the pod."""
    act("run", "--detach", *FLY, *SLEEP)
    for pod in host.pods():
        if pod["problem"] is None:
            resting_or_gone(host.podium, pod["uuid"])
            host.forked("stop", pod["uuid"], check=None)


def _run_prepared(host: Host, act: Act) -> None:
    uuid = host.prepare("box", "--exec", "/bin/true")
    act("run-prepared", uuid)


def _run_prepared_detached(host: Host, act: Act) -> None:
    uuid = host.prepare()
    act("run-prepared", "--detach", uuid)
    host.forked("stop", uuid, check=None)


def _stop(host: Host, act: Act) -> None:
    uuid = host.start()
    act("stop", uuid)
    host.forked("stop", uuid)


def _stop_forced(host: Host, act: Act) -> None:
    uuid = host.start()
    act("stop", "--force", uuid)
    host.forked("stop", uuid)


def _gc(host: Host, act: Act) -> None:
    host.abandoned()
    host.prepare()
    act(*GC)


def _rm(host: Host, act: Act) -> None:
    act("rm", host.exited())


def _rm_forced(host: Host, act: Act) -> None:
    uuid = host.start()
    act("rm", "--force", uuid)
    host.stop_all()


def _import(host: Host, act: Act) -> None:
    act("image", "import", host.another_rootfs(), "--name", "other", "--exec", "/bin/true")


def _image_gc(host: Host, act: Act) -> None:
    """Of an image that nothing names or needs any more, with its blob and tree."""
    host.unnamed()
    act(*IMAGE_GC)
    host.forked(*IMAGE_GC)


def _image_rm(host: Host, act: Act) -> None:
    host.forked("image", "import", host.another_rootfs(), "--name", "passing", "--exec", "/bin/true")
    act("image", "rm", "passing")
    host.forked("image", "rm", "passing", check=None)
    host.forked(*IMAGE_GC)


SCENARIOS: dict[str, Callable[[Host, Act], None]] = {
    scenario.__name__.lstrip("_"): scenario
    for scenario in (
        *(_prepare, _run, _run_removed, _run_failing, _run_detached, _run_detached_removed),
        *(
            _run_rested,
            _run_prepared,
            _run_prepared_detached,
            _stop,
            _stop_forced,
            _gc,
            _rm,
            _rm_forced,
            _import,
            _image_gc,
            _image_rm,
        ),
    )
}
# What several scenarios have in common is killed in one of them: points of the others begin with one of these.
BEGINS: dict[str, tuple[str, ...]] = {
    "run": ("run:",),
    "run_removed": ("gc:mark", "gc:delet"),
    "run_failing": ("run:prepared", "run:ended", "run:finished"),
    "run_detached": ("run:",),
    "run_detached_removed": ("run:ended", "run:finished", "gc:mark", "gc:delet"),
    "run_rested": ("run:rest", "run:ended", "run:finished"),
    "run_prepared": ("run:moved", "run:supervisor"),
    "run_prepared_detached": ("run:moved", "run:supervisor", "run:started"),
    "rm_forced": ("call:", "run:"),
    "image_gc": ("collect:",),
    "image_rm": ("collect:",),
}


@pytest.fixture
def host(podium: Podium, busybox_rootfs: str, test_dir: str) -> Host:
    return Host.make(podium, busybox_rootfs, test_dir)


@pytest.mark.parametrize("name", SCENARIOS)
def test_01_killed_at_every_point(host: Host, name: str, scope: Scope) -> None:
    podium, scenario = host.podium, SCENARIOS[name]
    log = os.path.join(host.folder, "points")
    scenario(host, Act(podium.using(podium.binary, PODIUM_TRACE_LOG=log), killed=False))
    host.let_end()
    podium(*GC)
    points = [point for point in reached(log) if sweep.LONG or point.startswith(BEGINS.get(name, ("",)))]
    assert points, "no trace point was reached"
    before = host.look()
    wrong = []
    row = f"SIGKILL at a trace point of {name.replace('_', ' ')}"
    for point in sweep.todo(row, points, len(points)):
        scenario(host, Act(podium.using(podium.binary, PODIUM_TRACE_KILL=point), killed=True))
        fault = host.wrong_after_gc(before, scope)
        if fault is not None:
            wrong.append(f"{point}: {fault}")
            before = host.look()
        sweep.record(row, point, fault)
    assert not wrong, "\n".join(wrong)
    assert podium.out("run", "--rm", *FLY, "box", "--exec", "/bin/busybox", "--", "echo", "fine") == "fine"
    podium("image", "verify")
