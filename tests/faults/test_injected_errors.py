"""Faults 1, 28 and 29: a system call of each kind is the last one, or fails; one gc later nothing is left.

First a command is run and its calls that are about the data directory, control groups or mounts are listed; then it is
run once for each of them and each thing that can go wrong there.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import NamedTuple

import pytest

from support import sweep, tracer
from support.command import Podium
from support.crashes import FLY, GC, IMAGE_GC, NSPAWN, SLEEP, TRUE, Host
from support.injections import Injection, complaint, planned, traced
from support.snapshot import Scope, Snapshot
from support.tracer import Fault, Traced

TOGETHER = 6  # after so many, gc has to find everything that they left

pytestmark = pytest.mark.skipif(not tracer.SUPPORTED, reason="the tracer knows the registers of x86_64 alone")


class Case(NamedTuple):
    """A command, made when what it needs is there, and how many of its calls each kind of fault meets in CI."""

    words: Callable[[Host], tuple[str, ...]]
    in_ci: int = 1
    after: Callable[[Host], None] = lambda host: None


def _import(host: Host) -> tuple[str, ...]:
    return ("image", "import", host.another_rootfs(), "--name", "other", "--exec", "/bin/true")


def _without_pins(host: Host) -> None:
    for words in (GC, IMAGE_GC):
        host.forked(*words)


def _first_prepare(host: Host) -> tuple[str, ...]:
    _without_pins(host)
    return ("prepare", *FLY, *TRUE)


def _gc(host: Host) -> tuple[str, ...]:
    host.abandoned()
    host.prepare()
    return GC


def _gc_nspawn(host: Host) -> tuple[str, ...]:
    host.abandoned(NSPAWN)
    return GC


def _image_gc(host: Host) -> tuple[str, ...]:
    _without_pins(host)
    host.unnamed()
    return IMAGE_GC


def _image_gc_of_a_pin(host: Host) -> tuple[str, ...]:
    _without_pins(host)
    host.forked("rm", host.prepare())
    return IMAGE_GC


CASES = {
    "import": Case(_import, 3),
    "first_prepare": Case(_first_prepare, 3),
    "prepare": Case(lambda _: ("prepare", *FLY, *TRUE), 3),
    "run": Case(lambda _: ("run", *FLY, *TRUE), 3),
    "run_nspawn": Case(lambda _: ("run", *NSPAWN, *TRUE)),
    "run_detached": Case(lambda _: ("run", "--detach", *FLY, *SLEEP), after=Host.stop_all),
    "run_detached_nspawn": Case(lambda _: ("run", "--detach", *NSPAWN, *SLEEP), after=Host.stop_all),
    "stop": Case(lambda host: ("stop", host.start()), after=Host.stop_all),
    "stop_nspawn": Case(lambda host: ("stop", host.start(stage1=NSPAWN)), after=Host.stop_all),
    "rm": Case(lambda host: ("rm", host.exited())),
    "rm_nspawn": Case(lambda host: ("rm", host.exited(NSPAWN))),
    "rm_forced": Case(lambda host: ("rm", "--force", host.start()), after=Host.stop_all),
    "rm_forced_nspawn": Case(lambda host: ("rm", "--force", host.start(stage1=NSPAWN)), after=Host.stop_all),
    "gc": Case(_gc, 3),
    "gc_nspawn": Case(_gc_nspawn),
    "image_gc": Case(_image_gc, 3),
    "image_gc_of_a_pin": Case(_image_gc_of_a_pin),
}


@pytest.fixture
def host(podium: Podium, busybox_rootfs: str, test_dir: str) -> Host:
    return Host.make(podium, busybox_rootfs, test_dir)


class Batch:
    """Injections after which one gc has to find everything that they left."""

    def __init__(self, host: Host, case: Case, scope: Scope, before: Snapshot) -> None:
        self.host = host
        self.case = case
        self.scope = scope
        self.before = before
        self.wrong: list[str] = []
        self._done: list[tuple[Injection, str | None, bool]] = []
        self._tracers = ExitStack()

    def add(self, injection: Injection) -> None:
        """Do it; it is judged when there are enough."""
        done = self._once(injection.fault)
        if done.hit() is None:  # two processes came to it in another order, say
            done = self._once(injection.fault)
        self._done.append((injection, complaint(done, injection), done.hit() is not None))
        if len(self._done) == TOGETHER:
            self.judge()

    def judge(self) -> None:
        """What is left of those that were done; whatever was, all of them get the blame."""
        if not self._done:
            return
        self.host.forget_unborn()
        left = self.host.wrong_after_gc(self.before, self.scope)
        self._tracers.close()
        if left is not None:
            self.wrong.append(f"after {[f'{i.row}: {i}' for i, _, _ in self._done]}: {left}")
            self.before = self.host.look()
        for injection, said, met in self._done:
            self.wrong += [said] if said else []
            sweep.record(injection.row, injection, said or left, met=met)
        self._done.clear()

    def _once(self, fault: Fault) -> Traced:
        words = self.case.words(self.host)
        done = self._tracers.enter_context(traced(self.host.podium, words, fault))
        self.case.after(self.host)
        return done


@pytest.mark.parametrize("name", CASES)
def test_28_a_call_fails(host: Host, name: str, scope: Scope) -> None:
    case = CASES[name]
    for stage1 in (FLY, NSPAWN):  # their pins are there
        host.podium("run", "--rm", *stage1, *TRUE)
    with traced(host.podium, case.words(host)) as done:
        assert done.code == 0, done.err
        case.after(host)
    shapes = done.calls()
    assert shapes, "nothing was traced"
    host.forked(*GC)
    batch = Batch(host, case, scope, host.look())
    for injection in planned(name, shapes, case.in_ci):
        batch.add(injection)
    batch.judge()
    assert not batch.wrong, "\n".join(batch.wrong)
    host.podium("image", "verify")
    assert host.podium.out("run", "--rm", *FLY, "box", "--exec", "/bin/busybox", "--", "echo", "fine") == "fine"
