"""Faults 15 and 42: many processes do what comes to their mind on one data directory; and one does, held to a model."""

from __future__ import annotations

import os
import random
import sqlite3
import threading
import time

import pytest
from hypothesis import HealthCheck, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from support import sweep
from support.command import Podium
from support.crashes import FLY, GC, IMAGE_GC, Host
from support.injections import CODES
from support.snapshot import Scope

PROCESSES = 16
SECONDS = 60.0 if sweep.LONG else 10.0
SEED = int(os.environ.get("SWEEP_SEED", "16"))
APP_CODES = {7, 9, 128 + 9, 128 + 15}


@pytest.fixture
def host(podium: Podium, busybox_rootfs: str, test_dir: str) -> Host:
    return Host.make(podium, busybox_rootfs, test_dir)


def _shell(script: str) -> tuple[str, ...]:
    return ("box", "--exec", "/bin/sh", "--", "-c", script)


class Crowd:
    """Threads, each of which has one podium command running at a time."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.ends = time.monotonic() + SECONDS
        self.wrong: list[str] = []
        self.done = 0

    def work(self, number: int) -> None:
        """Until time is up."""
        chance = random.Random(SEED * 1000 + number)
        while time.monotonic() < self.ends:
            words = self._words(chance)
            done = self.host.podium(*words, check=None)
            self.done += 1
            if done.returncode not in CODES | APP_CODES or "internal error" in done.stderr:
                self.wrong.append(f"{words} exited {done.returncode}: {done.stderr}")
            elif done.returncode and done.returncode not in APP_CODES and "podium: " not in done.stderr:
                self.wrong.append(f"{words} exited {done.returncode} without a word")

    def _words(self, chance: random.Random) -> tuple[str, ...]:
        pod = chance.choice([*self._pods(), "nobody"])
        name = chance.choice("abc")
        return chance.choice(
            [
                ("run", *FLY, *_shell("exit 7")),
                ("run", "--rm", *FLY, *_shell("exit 7")),
                ("run", "--detach", "--name", name, *FLY, *_shell("sleep 1000")),
                ("run", "--detach", *FLY, *_shell("trap 'exit 9' TERM; while :; do sleep 0.05; done")),
                ("prepare", "--name", name, *FLY, *_shell("exit 7")),
                ("run-prepared", pod),
                ("run-prepared", "--detach", name),
                *[("list",), ("list", "--format", "json"), ("status", pod), ("inspect", pod), ("logs", pod)],
                *[("enter", pod, "--", "true"), ("kill", pod), ("export", pod, os.devnull)],
                *[("stop", pod), ("stop", name), ("stop", "--force", pod), ("rm", pod), ("rm", "--force", pod)],
                *[GC, ("gc",), ("gc", "--mark-only"), IMAGE_GC],
                ("image", "import", self.host.rootfs, "--name", f"image-{name}", "--exec", "/bin/true"),
                *[("image", "rm", f"image-{name}"), ("image", "tag", "box", f"image-{name}"), ("image", "list")],
                *[("events",), ("fsck",), ("image", "verify")],
            ]
        )

    def _pods(self) -> list[str]:
        pods = os.path.join(self.host.podium.dir, "pods")
        try:
            return [uuid for phase in os.listdir(pods) for uuid in os.listdir(os.path.join(pods, phase))]
        except FileNotFoundError:
            return []


def test_15_a_crowd_on_one_directory(host: Host, scope: Scope) -> None:
    before = host.look()
    crowd = Crowd(host)
    threads = [threading.Thread(target=crowd.work, args=(number,)) for number in range(PROCESSES)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for uuid in host.podium.pods():
        host.podium("rm", "--force", uuid)
    wrong = crowd.wrong
    fault = host.wrong_after_gc(before, scope)
    wrong += [fault] if fault else []
    wrong += _broken_promises(host)
    for number in range(crowd.done):
        sweep.record(f"a random command beside {PROCESSES - 1} others", f"{SEED}.{number}", "\n".join(wrong) or None)
    assert crowd.done >= PROCESSES and not wrong, "\n".join(wrong)


def _broken_promises(host: Host) -> list[str]:
    """Of what is stored: nothing damaged, the image is there and runs, and the index is what a new one would be."""
    wrong = []
    for words in (("fsck",), ("image", "verify"), IMAGE_GC, ("migrate", "--check")):
        done = host.podium(*words, check=None)
        if done.returncode:
            wrong.append(f"{' '.join(words)} exited {done.returncode}: {done.stdout}{done.stderr}")
    index = os.path.join(host.podium.dir, "index.db")
    listed, rows = host.podium.json("image", "list"), _rows(index)
    for name in (index, f"{index}-wal", f"{index}-shm"):
        if os.path.exists(name):
            os.unlink(name)
    if (host.podium.json("image", "list"), _rows(index)) != (listed, rows):
        wrong.append("the index is not what a new one is")
    if "box" not in {image["name"] for image in listed["images"]}:
        wrong.append(f"the image is gone: {listed}")
    return wrong


def _rows(index: str) -> list[str]:
    db = sqlite3.connect(index)
    try:
        return sorted(line for line in db.iterdump() if line.startswith("INSERT"))
    finally:
        db.close()


class OnePod(RuleBasedStateMachine):
    """One process at a time: what `list` says is what the commands have done."""

    host: Host

    def __init__(self) -> None:
        super().__init__()
        self.model: dict[str, str] = {}  # uuid → state

    def teardown(self) -> None:
        for uuid in self.host.podium.pods():
            self.host.podium("rm", "--force", uuid)
        assert self.host.podium.pods() == {}

    def _one(self, data: st.DataObject, *states: str) -> str:
        return data.draw(st.sampled_from(sorted(uuid for uuid, state in self.model.items() if state in states)))

    def _has(self, *states: str) -> bool:
        return any(state in states for state in self.model.values())

    @rule()
    def prepare(self) -> None:
        self.model[self.host.prepare(*_shell("exit 7"))] = "prepared"

    @rule()
    def start(self) -> None:
        self.model[self.host.start()] = "running"

    @precondition(lambda self: self._has("prepared"))
    @rule(data=st.data())
    def run(self, data: st.DataObject) -> None:
        uuid = self._one(data, "prepared")
        self.host.podium("run-prepared", uuid, check=7)
        self.model[uuid] = "exited"

    @precondition(lambda self: self._has("running", "exited"))
    @rule(data=st.data())
    def run_again(self, data: st.DataObject) -> None:
        self.host.podium("run-prepared", self._one(data, "running", "exited"), check=125)

    @precondition(lambda self: self._has("running"))
    @rule(data=st.data(), force=st.booleans())
    def stop(self, data: st.DataObject, force: bool) -> None:
        uuid = self._one(data, "running")
        self.host.podium("stop", *(["--force"] if force else ["--timeout", "50ms"]), uuid)
        self.model[uuid] = "exited"

    @precondition(lambda self: self._has("running"))
    @rule(data=st.data())
    def enter(self, data: st.DataObject) -> None:
        self.host.podium("enter", self._one(data, "running"), "--", "/bin/sh", "-c", "exit 5", check=5)

    @precondition(lambda self: bool(self.model))
    @rule(data=st.data(), force=st.booleans())
    def rm(self, data: st.DataObject, force: bool) -> None:
        uuid = self._one(data, "prepared", "running", "exited")
        refused = self.model[uuid] == "running" and not force
        self.host.podium("rm", *(["--force"] if force else []), uuid, check=4 if refused else 0)
        if not refused:
            del self.model[uuid]

    @rule(all=st.booleans())
    def gc(self, all: bool) -> None:
        gone = ("exited", "prepared") if all else ("exited",)
        told = self.host.podium.json(*(GC if all else GC[:3]))
        assert set(told["collected"]) == {uuid for uuid, state in self.model.items() if state in gone}
        self.model = {uuid: state for uuid, state in self.model.items() if state not in gone}

    @rule()
    def image_gc(self) -> None:
        assert self.host.podium.json(*IMAGE_GC)["images"] == []

    @precondition(lambda self: bool(self.model))
    @rule()
    def image_rm(self) -> None:
        self.host.podium("image", "rm", "box", check=4)

    @invariant()
    def list_tells_the_truth(self) -> None:
        pods = self.host.podium.pods()
        assert {uuid: pod["state"] for uuid, pod in pods.items()} == self.model
        assert [pod["problem"] for pod in pods.values() if pod["problem"]] == []


def test_15_one_process_at_a_time(host: Host, scope: Scope) -> None:
    before = host.look()
    machine = type("Machine", (OnePod,), {"host": host})
    steps, rounds = (30, 30) if sweep.LONG else (10, 1)
    row = f"{3 * steps} random commands, one after the other, held to a model"
    for number in sweep.todo(row, range(rounds), rounds):
        _hold_to_a_model(machine, SEED * 100 + number, steps)
        fault = host.wrong_after_gc(before, scope)
        sweep.record(row, number, fault)
        assert fault is None, fault


def _hold_to_a_model(machine: type[OnePod], number: int, steps: int) -> None:
    """Three runs of random commands, the `number`th of all possible ones."""
    run_state_machine_as_test(
        seed(number)(machine),
        settings=settings(
            max_examples=3,
            stateful_step_count=steps,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
