"""Faults 20, 21 and 25: a running pod whose files are damaged, and records and folders of a newer podium."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from typing import Any

import pytest

from support import damage
from support.command import Podium
from support.damage import Damage
from support.snapshot import Scope, settled, snapshot

FLY = ("--stage1", "fly", "--net", "host")
FILES = ("pod", "envelope.json", "ledger", "runtime.json", "status/srv.json")
CHOSEN = ("empty", "NULs", "an empty object", "100 MB", "a folder", "a pipe", "a link outside", "missing")


@pytest.fixture
def loaded(podium: Podium, busybox_oci: str) -> Podium:
    podium("image", "import", busybox_oci, "--name", "busybox")
    return podium


def _start(podium: Podium, *words: str) -> str:
    command = ("busybox", "--name", "srv", "--exec", "/bin/sleep", "--", "1000")
    return podium.out("run", "--detach", *FLY, *words, *command)


def _pod(podium: Podium, uuid: str, file: str = "") -> str:
    (phase,) = [p for p in os.listdir(f"{podium.dir}/pods") if os.path.isdir(f"{podium.dir}/pods/{p}/{uuid}")]
    return os.path.join(podium.dir, "pods", phase, uuid, file)


def _quiet(done: Any) -> None:
    assert "internal error" not in done.stderr and damage.BYTES_OF_OUTSIDE not in done.stdout + done.stderr, done


@pytest.mark.parametrize("file", FILES)
def test_21_a_running_pod_with_a_damaged_file_is_ended_and_collected(
    loaded: Podium, file: str, scope: Scope, data_dir: str
) -> None:
    other = _start(loaded, "--name", "other")
    before = snapshot((f"{data_dir}/pods", f"{data_dir}/tmp"))
    chosen = [each for each in damage.RAW if each.name in CHOSEN]
    assert len(chosen) == len(CHOSEN)
    made: dict[str, Damage] = {}
    for each in chosen:
        uuid = _start(loaded)
        each.apply(_pod(loaded, uuid, file))
        made[uuid] = each
    pods = loaded.pods()
    assert pods.keys() == {*made, other}
    assert {pod["state"] for pod in pods.values()} == {"running"}
    assert pods[other]["problem"] is None
    for number, (uuid, each) in enumerate(made.items()):
        verb = (("stop", "--timeout", "5s"), ("rm", "--force"), ("stop", "--force"))[number % 3]
        done = loaded(*verb, uuid, check=None)
        assert done.returncode == 0, f"{verb} of a pod with {file} as {each.name}: {done.stderr}"
        _quiet(done)
    assert loaded.json("gc", "--grace-period", "0s")["failed"] == []
    assert loaded.pods().keys() == {other}
    left = settled(before, scope, (f"{data_dir}/pods", f"{data_dir}/tmp"))
    assert [line for line in left if other not in line] == []
    loaded("rm", "--force", other)


def _flag(kind: str) -> Callable[[str], None]:
    def change(record: dict[str, Any]) -> None:
        record["features"][kind] = ["teleport"]
        record["prepared_by"] = "podium 9.7"

    return damage.resealed(change)


def test_25_flags_of_a_newer_podium_in_an_envelope(loaded: Podium) -> None:
    """Unknown compat: as if nothing were. ro_compat: all but run-prepared and enter. incompat: nothing at all."""
    running = {kind: _start(loaded, "--name", kind.replace("_", "-")) for kind in ("compat", "ro_compat", "incompat")}
    prepared = {kind: loaded.out("prepare", *FLY, "busybox", "--exec", "/bin/true") for kind in running}
    for pods in (running, prepared):
        for kind, uuid in pods.items():
            _flag(kind)(_pod(loaded, uuid, "envelope.json"))
    listed = loaded.pods()
    for pods in (running, prepared):
        assert listed[pods["compat"]]["problem"] is None
        for kind in ("ro_compat", "incompat"):
            problem = listed[pods[kind]]["problem"]
            assert problem["reason"] == "newer-format"
            assert "'teleport'" in problem["message"] and "podium 9.7" in problem["message"]
            assert loaded.json("status", pods[kind])["pod"]["uuid"] == pods[kind]

    assert loaded("enter", running["compat"], "--", "echo", "in").stdout == "in\n"
    loaded("run-prepared", prepared["compat"])
    for kind in ("ro_compat", "incompat"):
        for verb, uuid in (("enter", running[kind]), ("run-prepared", prepared[kind])):
            refused = loaded(verb, uuid, check=125).stderr
            assert "'teleport'" in refused and "podium 9.7" in refused

    for verb in (("stop",), ("stop", "--force"), ("rm", "--force"), ("kill",)):
        refused = loaded(*verb, running["incompat"], check=5).stderr
        assert "'teleport'" in refused and "podium 9.7" in refused
    assert loaded.pods()[running["incompat"]]["state"] == "running"

    loaded("stop", running["ro_compat"], running["compat"])
    loaded("rm", prepared["ro_compat"])
    told = loaded.json("gc", "--grace-period", "0s", "--expire-prepared", "0s", check=6)
    assert {failure["uuid"] for failure in told["failed"]} == {prepared["incompat"]}
    assert {failure["reason"] for failure in told["failed"]} == {"newer-format"}
    assert loaded.pods().keys() == {running["incompat"], prepared["incompat"]}
    loaded("rm", prepared["incompat"], check=5)

    for uuid in (running["incompat"], prepared["incompat"]):
        damage.resealed(lambda record: record["features"].update(incompat=[]))(_pod(loaded, uuid, "envelope.json"))
    loaded("rm", "--force", running["incompat"], prepared["incompat"])
    assert loaded.pods() == {}


def _format(**changes: Any) -> bytes:
    whole = {"magic": "podium-data", "version": 1, "compat": [], "ro_compat": [], "incompat": []}
    return json.dumps({**whole, "written_by": "podium 9.7", **changes}).encode()


DAMAGED = (
    b"",
    b"\0" * 64,
    b"{",
    b"[]",
    b"null",
    _format(magic="rkt"),
    _format(version="1"),
    b"\xff\xfe" + _format(),
    b"[" * 100_000,
)
READS = (
    ("list",),
    ("status", "one"),
    ("stop", "one"),
    ("gc", "--grace-period", "0s"),
    ("rm", "one"),
    ("image", "list"),
)
WRITES = (("run", *FLY, "busybox"), ("prepare", *FLY, "busybox"), ("run-prepared", "one"), ("image", "rm", "busybox"))


def test_25_a_data_directory_of_a_newer_podium_or_a_damaged_format(loaded: Podium) -> None:
    """Clear errors that name the reason, and nothing is changed."""
    loaded("prepare", *FLY, "--name", "one", "busybox", "--exec", "/bin/true")
    path = os.path.join(loaded.dir, "format.json")
    with open(path, "rb") as f:
        good = f.read()
    before = snapshot((loaded.dir,)).things["file"]

    def refused(verbs: tuple[tuple[str, ...], ...], said: str, content: bytes) -> None:
        for verb in verbs:
            done = loaded(*verb, check=None)
            _quiet(done)
            assert done.returncode != 0 and said in done.stderr, f"{verb} with {content[:80]!r}: {done}"
        with open(path, "rb") as f:
            assert f.read() == content

    for content in DAMAGED:
        damage.write(path, content)
        refused((*READS, *WRITES), "is damaged or not podium's", content)
    for content in (_format(version=2), _format(incompat=["teleport"])):
        damage.write(path, content)
        refused((*READS, *WRITES), "podium 9.7", content)
    damage.write(path, _format(ro_compat=["teleport"]))
    refused(WRITES, "podium 9.7", _format(ro_compat=["teleport"]))
    assert loaded.json("list")["pods"][0]["name"] == "one"
    os.unlink(path)
    for verb in (*READS, *WRITES):
        assert "format.json is missing" in loaded(*verb, check=None).stderr
    assert not os.path.lexists(path)
    damage.write(path, good)
    after = snapshot((loaded.dir,)).things["file"]
    assert {p: after[p] for p in after if before.get(p) != after[p]} == {} and before.keys() == after.keys()
    damage.write(path, _format(compat=["teleport"], ro_compat=["teleport"]))
    loaded("rm", "one")
