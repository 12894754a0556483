"""Faults 1 and 11 for virtual machines: podium, QEMU, virtiofsd or a relay is killed while one starts, runs or stops.

Nothing is left after one gc, and the status of an app that had ended is still known. PODIUM_TEST_FULL=1 kills each of
them at every trace point, and more often at random moments.
"""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable

import pytest

from podium.testing.checks.leaks import reached
from support import machines, sweep
from support.command import Podium
from support.crashes import GC, Host
from support.rest import gone_or_at_rest
from support.snapshot import Scope, Snapshot

FULL = sweep.LONG or os.environ.get("PODIUM_TEST_FULL") == "1"
CYCLES, ROUNDS = (5, 10) if FULL else (2, 1)
SEED = int(os.environ.get("SWEEP_SEED", "11"))
VICTIMS = ("podium", "qemu", "virtiofsd", "relay")
RUNNING = "running"  # no trace point: the first app has ended, the second goes on, the supervisor is at rest
POINTS = {
    "podium": ("net:recorded#1", "run:started:a#1", "run:resting#1", RUNNING, "run:ended#1"),
    "qemu": ("run:sandbox#1", RUNNING),
    "virtiofsd": (RUNNING,),
    "relay": (RUNNING,),
}


class Life:
    """A pod's life in which something is killed.

    Attributes:
        struck: it was there to be killed.
        known: how the first app had ended by then; None: it had not.
    """

    def __init__(self, host: Host) -> None:
        self.podium = host.podium
        self.log = os.path.join(host.folder, "points")
        self.struck = False
        self.known: int | None = None

    @property
    def uuid(self) -> str | None:
        return next(iter(self.podium.pods()), None)

    def go(self, point: str, victim: str) -> None:
        """Start, wait for the end of the first app, stop, collect; the victim is killed at a trace point."""
        what = "PODIUM_TRACE_KILL" if victim == "podium" else "PODIUM_TRACE_STOP"
        at_point = self.podium.using(self.podium.binary, PODIUM_TRACE_LOG=self.log, **{what: point})
        started = self._command(at_point, victim, *machines.POD)
        uuid = self.uuid
        if started and uuid is not None:
            self._first_ends(uuid, victim)
            self._until(lambda: gone_or_at_rest(self.podium, uuid), "the rest of the supervisor", victim)
            if point == RUNNING:
                supervisor = machines.status(self.podium, uuid)["pid"]
                self.strike(uuid, [supervisor] if victim == "podium" else machines.helpers(self.podium, uuid, victim))
                machines.until(
                    lambda: not machines.helpers(self.podium, uuid, "qemu"), "the end of QEMU, before any gc"
                )
            self._command(at_point, victim, "stop", uuid)
        self.end(victim)
        self._command(at_point, victim, *GC)
        self.struck = self.struck or (victim == "podium" and point in reached(self.log))

    def _command(self, at_point: Podium, victim: str, *words: str) -> bool:
        process = at_point.start(*words)
        self._until(lambda: process.poll() is not None, f"the end of podium {words[0]}", victim)
        process.communicate()
        return process.returncode == 0

    def _until(self, done: Callable[[], bool], what: str, victim: str) -> None:
        """Wait; where a process has stopped itself at the trace point, kill the victim and let it go on."""

        def look() -> bool:
            for pid in machines.stopped(self.podium):
                uuid = self.uuid
                if uuid is not None:
                    self.strike(uuid, machines.helpers(self.podium, uuid, victim))
                os.kill(pid, signal.SIGCONT)
            return done()

        machines.until(look, what)

    def strike(self, uuid: str, pids: list[int]) -> None:
        """Kill, and note what is known."""
        if not self.struck:
            self.known = machines.exit_code(self.podium, uuid)
        self.struck = self.struck or bool(pids)
        machines.kill(pids)

    def _first_ends(self, uuid: str, victim: str) -> None:
        def ended() -> bool:
            if not self.struck:
                self.known = machines.exit_code(self.podium, uuid)
            return self.known is not None or self.podium.pods()[uuid]["state"] != "running"

        self._until(ended, "the end of the first app", victim)

    def end(self, victim: str = "podium") -> None:
        """End what still runs; the status of the first app is what it was."""
        for uuid in self.podium.pods():
            self._until(lambda uuid=uuid: self._settled(uuid), "the end of a pod in which something was killed", victim)  # type: ignore[misc]
            if self.known is not None:
                assert machines.exit_code(self.podium, uuid) == self.known
        assert self.known in (None, 0)  # it had ended by itself

    def _settled(self, uuid: str) -> bool:
        """Whether a pod has ended; one that nobody ends is stopped, if it is whole."""
        pod = self.podium.pods().get(uuid)
        if pod is None or pod["state"] != "running":
            return True
        if pod["problem"] is None:
            self.podium("stop", uuid, check=None)
        return pod["problem"] is not None  # its supervisor was killed: gc ends the rest


@pytest.fixture
def host(podium: Podium, busybox_rootfs: str, busybox_oci: str, test_dir: str) -> Host:
    podium("image", "import", busybox_oci, "--name", "box")
    return Host(podium, busybox_rootfs, test_dir)


def _points(host: Host, victim: str) -> list[str]:
    """Every point that podium's processes reach in a pod's life, while the victim may be there."""
    life = Life(host)
    life.go("", "podium")
    host.podium(*GC)
    all = reached(life.log)
    if victim != "podium":
        all = all[all.index("run:sandbox#1") : all.index("net:deleted#1")]
    return [RUNNING, *all]


@pytest.mark.parametrize("victim", VICTIMS)
def test_11_killed_at_trace_points(host: Host, scope: Scope, victim: str) -> None:
    points = _points(host, victim) if FULL else POINTS[victim]
    before, wrong, struck = host.look(), [], []
    what = {"qemu": "QEMU", "relay": "a relay"}.get(victim, victim)
    row = f"SIGKILL of {what} at a trace point of a virtual machine's life"
    for point in sweep.todo(row, points, len(points)):
        if os.path.exists(os.path.join(host.folder, "points")):
            os.unlink(os.path.join(host.folder, "points"))
        life = Life(host)
        life.go(point, victim)
        struck += [point] if life.struck else []
        faults = _wrong(host, before, scope, point)
        sweep.record(row, point, "\n".join(faults) or None, met=life.struck)
        wrong += faults
    assert not wrong, "\n".join(wrong)
    print(f"{victim} was killed at {len(struck)} points: {' '.join(struck)}")
    assert sweep.LONG or set(POINTS[victim]) <= set(struck)


@pytest.mark.parametrize("seed", range(ROUNDS))
def test_11_killed_at_random_moments(host: Host, scope: Scope, seed: int) -> None:
    """Whoever works for the pod: the command or its supervisor, QEMU, virtiofsd, a relay, or all of them."""
    begin = time.monotonic()
    Life(host).go("", "podium")
    whole = min(time.monotonic() - begin, 10.0)
    before, wrong, chance = host.look(), [], random.Random(SEED * 1000 + seed)
    row = f"SIGKILL of what works for a virtual machine at a random moment, {seed}"
    for number in sweep.todo(row, range(CYCLES), CYCLES):
        life = Life(host)
        process = host.podium.start(*machines.POD)
        time.sleep(chance.uniform(0.05, 1.2) * whole)
        victim = chance.choice([*VICTIMS, "all"])
        uuid = life.uuid
        if uuid is not None:
            pids = [] if victim in ("podium", "all") else machines.helpers(host.podium, uuid, victim)
            life.strike(uuid, pids)
        if victim in ("podium", "all"):
            pids = list(machines.at_work(host.podium))
            machines.kill(pids if victim == "all" else [chance.choice([process.pid, max(pids)])])
        process.communicate(timeout=machines.PATIENCE)
        life.end()
        host.let_end()
        host.forget_unborn()
        faults = _wrong(host, before, scope, f"{victim} in cycle {number}")
        sweep.record(row, f"{SEED}.{seed}.{number}", "\n".join(faults) or None)
        wrong += faults
    assert not wrong, "\n".join(wrong)


def _wrong(host: Host, before: Snapshot, scope: Scope, what: str) -> list[str]:
    fault = host.wrong_after_gc(before, scope)
    return [] if fault is None else [f"{what}: {fault}"]
