"""Faults 20 and 21: one pod's files damaged in every way costs that pod's line only, and the pod can be got rid of."""

from __future__ import annotations

import json
import os
import uuid as uuids
from collections.abc import Iterator
from typing import Any

import pytest

from podium import records
from podium.linux import cgroup
from podium.paths import PHASES
from support import damage
from support.command import Podium
from support.damage import Answer, Damage, podium_forked

FLY = ("--stage1", "fly", "--net", "host")
APP = "srv"
RECORDS = ("envelope.json", "runtime.json", f"status/{APP}.json", "gc-failed.json")
FILES = ("pod", "ledger", *RECORDS)
READERS = (("status",), ("inspect",), ("cat-manifest",), ("logs",))


class Morgue:
    """Pods that have ended, as many copies as are wanted, each with a cgroup that its ledger, if it is read, names."""

    def __init__(self, podium: Podium, parent: str) -> None:
        self.podium = podium
        self.parent = parent
        command = ("busybox", "--name", APP, "--exec", "/bin/sh", "--", "-c", "echo said; exit 3")
        dying = podium.using(podium.binary, PODIUM_TRACE_KILL="run:ended")
        self.model = dying.out("run", "--detach", *FLY, *command)
        podium("wait", self.model)
        self.folder = os.path.join(podium.dir, "pods", "run", self.model)

    def copy(self, file: str) -> tuple[str, str]:
        """A copy of the pod; returns its uuid, and where `file` of it is."""
        uuid = str(uuids.uuid4())
        phase = "exited-garbage" if file == "gc-failed.json" else "run"
        folder = os.path.join(self.podium.dir, "pods", phase, uuid)
        damage.copy_pod(self.folder, folder)
        failed = {"reason": "failed", "message": "on purpose", "attempts": 2, "first": "2026-01-01T00:00:00.000Z"}
        if file == "gc-failed.json":
            damage.write(os.path.join(folder, file), records.seal(failed) + b"\n")
        return uuid, os.path.join(folder, file)

    def damaged(self, file: str, damages: Iterator[Damage]) -> dict[str, Damage]:
        """uuid → how that copy is damaged."""
        made = {}
        for each in damages:
            uuid, path = self.copy(file)
            each.apply(path)
            made[uuid] = each
        return made

    def ask(self, *words: str) -> Answer:
        """As a process of its own, which has imported nothing yet."""
        done = self.podium(*words, check=None)
        return Answer(done.returncode, done.stdout, done.stderr)

    def fork(self, *words: str) -> Answer:
        return podium_forked(self.podium.argv(*words)[1:])


@pytest.fixture
def morgue(podium: Podium, busybox_oci: str, config_file: str) -> Morgue:
    podium("image", "import", busybox_oci, "--name", "busybox")
    with open(config_file, encoding="utf-8") as f:
        parent = f.read().split('"')[1]
    return Morgue(podium, parent)


@pytest.fixture
def outside() -> Iterator[None]:
    """A file that links in a pod lead to is as it was."""
    before = _state_of_outside()
    yield
    assert _state_of_outside() == before


def _state_of_outside() -> tuple[object, ...]:
    about = os.stat(damage.OUTSIDE)
    with open(damage.OUTSIDE, "rb") as f:
        return about.st_mode, about.st_uid, about.st_mtime_ns, about.st_ctime_ns, f.read()


def _fault_of(answer: Answer) -> str | None:
    """What is wrong with an answer, whatever was asked."""
    if answer.code < 0:
        return f"ended by signal {-answer.code}"
    said = answer.out + answer.err
    if "Traceback" in said or "internal error" in said:
        return said.strip()[-300:]
    if damage.BYTES_OF_OUTSIDE in said:
        return "shows a file outside of the pod"
    if answer.code and not answer.err.startswith("podium: "):
        return f"exited {answer.code} without a word"
    return None


def _listed(morgue: Morgue, made: dict[str, Damage], file: str) -> dict[str, Any]:
    """Every pod is listed, the others as if nothing were, in both forms."""
    answer = morgue.ask("list", "--format", "json")
    assert _fault_of(answer) is None and answer.code == 0, answer.err[-2000:]
    pods = {pod["uuid"]: pod for pod in json.loads(answer.out)["pods"]}
    assert pods.keys() == made.keys() | {morgue.model}
    whole = pods[morgue.model]
    assert (whole["problem"], whole["state"], whole["apps"][0]["name"]) == (None, "exited", APP)
    unseen = [d.name for uuid, d in made.items() if d.seen and pods[uuid]["problem"] is None and file in RECORDS]
    assert unseen == [], f"damages of {file} that list has not seen"
    table = morgue.ask("list")
    assert _fault_of(table) is None and table.code == 0, table.err[-2000:]
    return pods


def _collected(morgue: Morgue, made: dict[str, Damage]) -> None:
    """gc gets rid of half of them, rm --force of the others; the cgroup of each is gone too."""
    for uuid in made:
        cgroup.create(f"{morgue.parent}/{uuid}")
    half = list(made)[::2]
    for start in range(0, len(half), 200):
        done = morgue.podium("rm", "--force", *half[start : start + 200], check=None)
        assert done.returncode == 0 and "internal error" not in done.stderr, done.stderr[-2000:]
    report = morgue.podium("gc", "--grace-period", "0s", "--format", "json", check=None)
    told = json.loads(report.stdout)
    assert report.returncode == 0 and told["failed"] == [], told["failed"][:3]
    assert morgue.podium.pods() == {}
    assert cgroup.existing(morgue.parent) & made.keys() == set()


def _differs(file: str) -> Iterator[Damage]:
    yield from damage.RAW
    if file in RECORDS:
        yield Damage("a key twice", damage.duplicate_keys, seen=False)


@pytest.mark.parametrize("file", FILES)
def test_20_every_damage_of_a_file_costs_one_pod(morgue: Morgue, file: str, outside: None) -> None:
    made = morgue.damaged(file, _differs(file))
    _listed(morgue, made, file)
    wrong = []
    for uuid, each in made.items():
        for words in READERS:
            fault = _fault_of(morgue.fork(*words, uuid))
            if fault is not None:
                wrong.append(f"{words[0]} of a pod with {file} as {each.name}: {fault}")
    assert not wrong, "\n".join(wrong)
    _collected(morgue, made)


@pytest.mark.parametrize("file", RECORDS)
def test_20_sealed_records_of_wrong_types(morgue: Morgue, file: str, outside: None) -> None:
    _, model = morgue.copy(file)
    made = morgue.damaged(file, damage.wrong_types(model))
    made[os.path.relpath(model, os.path.join(morgue.podium.dir, "pods")).split("/")[1]] = Damage("none", print, False)
    _listed(morgue, made, file)
    wrong = []
    for uuid, each in list(made.items())[::3]:
        fault = _fault_of(morgue.fork("status", uuid))
        if fault is not None:
            wrong.append(f"status of a pod with {file} as {each.name}: {fault}")
    assert not wrong, "\n".join(wrong)
    _collected(morgue, made)


VERBS = (
    *(("status",), ("inspect",), ("cat-manifest",), ("logs",), ("stop",), ("kill",), ("run-prepared",)),
    *(("enter",), ("wait", "--timeout", "1s"), ("export",)),
)


@pytest.mark.parametrize("kind", ["file", "link"])
def test_20_what_is_no_folder_in_a_pods_place(podium: Podium, busybox_oci: str, test_dir: str, kind: str) -> None:
    """It is told, blocks nothing, and goes when it is named; the pod that a link leads to is as it was."""
    podium("image", "import", busybox_oci, "--name", "busybox")
    real = podium.out("prepare", *FLY, "busybox", "--exec", "/bin/true")
    made: dict[str, str] = {}
    for phase in PHASES:
        uuid = str(uuids.uuid4())
        made[uuid] = os.path.join(podium.dir, "pods", phase, uuid)
        if kind == "file":
            damage.write(made[uuid], b"a file")
        else:
            os.symlink(os.path.join(podium.dir, "pods", "prepared", real), made[uuid])
    pods = podium.pods()
    assert pods.keys() == {real, *made}
    assert {uuid: pods[uuid]["problem"]["reason"] for uuid in made} == dict.fromkeys(made, "corrupt")
    for uuid in made:
        for verb, *options in VERBS:
            rest = [os.path.join(test_dir, "out.tar")] if verb == "export" else []
            fault = _fault_of(podium_forked(podium.argv(verb, *options, uuid, *rest)[1:]))
            assert fault is None, f"{verb} of {made[uuid]}: {fault}"
    podium("image", "gc", "--grace-period", "0s")
    told = podium.json("gc", "--grace-period", "0s")
    assert {kept["uuid"] for kept in told["kept"]} == {*made} and told["failed"] == []
    assert all("podium rm" in kept["reason"] for kept in told["kept"])
    moved, *removed = made
    podium("rm", *removed)
    assert {found["kind"] for found in podium.json("fsck", "--repair")["findings"]} == {"pod-odd"}
    assert not os.path.lexists(made[moved]) and podium.pods().keys() == {real}
    podium("run-prepared", real)
    podium("rm", real)
