"""gc as a whole: what is marked, kept, collected and told, with real pods where the stage1 matters."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess

import pytest

from podium import records
from podium.clock import rfc3339
from podium.errors import NewerFormat
from podium.features import Features
from podium.gc.collector import mark
from podium.pods import lifecycle
from podium.pods.lifecycle import GC_FAILED
from podium.pods.status import Runtime
from support.command import Podium
from support.disk import Disk, sleeper

NOW = ("gc", "--grace-period", "0s")


@pytest.fixture
def busybox(podium: Podium, busybox_rootfs: str) -> str:
    podium("image", "import", busybox_rootfs, "--name", "busybox", "--exec", "/bin/true")
    return "busybox"


def run(podium: Podium, *args: str) -> str:
    """Run a pod under fly; its uuid."""
    before = set(podium.pods())
    podium("run", "--stage1", "fly", "--net", "host", *args)
    (uuid,) = set(podium.pods()) - before
    return str(uuid)


def test_gc_collects_a_real_pod_and_tells_how(podium: Podium, busybox: str) -> None:
    uuid = run(podium, busybox)
    report = podium.json(*NOW)
    assert report["schema"] == "podium.gc/1"
    assert report["marked"] == report["collected"] == [uuid]
    assert report["kept"] == report["failed"] == report["released"] == []
    (way,) = report["dispatch"]
    assert (way["uuid"], way["stage1"], way["via"]) == (uuid, "fly", "installed")
    assert way["digest"].startswith("sha256:") and way["version"]
    assert podium.pods() == {} and os.listdir(os.path.join(podium.dir, "tmp")) == []


def test_gc_tells_what_the_plugin_released(podium: Podium, busybox: str) -> None:
    podium("run", "--stage1", "fly", "--net", "host", "-d", busybox, "--exec", "/bin/sleep", "--", "1000")
    (uuid,) = podium.pods()
    os.kill(podium.json("status", uuid)["pod"]["pid"], signal.SIGKILL)
    subprocess.run([*podium.argv("wait", uuid)], env=podium.environment(), check=False, timeout=30)
    report = podium.json(*NOW)
    assert report["collected"] == [uuid]
    assert [(r["kind"], r["by"]) for r in report["released"]] == [("cgroup", "plugin")]


def test_gc_leaves_running_and_prepared_pods_alone(podium: Podium, busybox: str) -> None:
    podium("run", "--stage1", "fly", "--net", "host", "-d", busybox, "--exec", "/bin/sleep", "--", "1000")
    prepared = podium.out("prepare", "--stage1", "fly", "--net", "host", busybox)
    report = podium.json(*NOW)
    assert report["marked"] == report["collected"] == report["failed"] == []
    assert {pod["state"] for pod in podium.pods().values()} == {"running", "prepared"}
    (running,) = set(podium.pods()) - {prepared}
    podium("stop", running)
    report = podium.json(*NOW, "--expire-prepared", "0s")
    assert set(report["collected"]) == {running, prepared}


def test_gc_grace_mark_only_and_dry_run(podium: Podium, busybox: str) -> None:
    uuid = run(podium, busybox)
    dry = podium.json(*NOW, "--dry-run")
    assert dry["marked"] == dry["collected"] == [uuid]
    assert podium.pods()[uuid]["state"] == "exited"
    assert podium.json(*NOW, "--mark-only")["marked"] == [uuid]
    assert podium.pods()[uuid]["state"] == "exited-garbage"
    kept = podium.json("gc", "--grace-period", "1h")
    assert kept["collected"] == [] and [k["uuid"] for k in kept["kept"]] == [uuid]
    assert podium.json(*NOW, "--dry-run")["collected"] == [uuid] and uuid in podium.pods()
    assert podium.json(*NOW)["collected"] == [uuid]


def test_gc_counts_from_the_mark_when_nobody_recorded_the_end(disk: Disk) -> None:
    folder = disk.pod(runtime=Runtime(cgroup="podium/x", started=rfc3339()))
    report = disk.collect(grace_period=3600.0)
    assert report.marked == [os.path.basename(folder)] and len(report.kept) == 1
    assert disk.collect().collected == report.marked


@pytest.mark.parametrize("what", ["abandoned embryo", "failed prepare"])
def test_gc_collects_what_never_became_a_pod(disk: Disk, what: str) -> None:
    if what == "abandoned embryo":
        uuid = lifecycle.new_uuid()
        folder = disk.data.pod("embryo", uuid)
        os.mkdir(folder)
    else:
        folder = disk.pod("prepare", ran=False)
        uuid = os.path.basename(folder)
    fd = os.open(folder, os.O_RDONLY)
    fcntl.flock(fd, fcntl.LOCK_EX)
    assert disk.collect().marked == []
    os.close(fd)
    report = disk.collect(grace_period=3600.0)  # it never ran, so there is nothing to look at afterwards
    assert report.marked == report.collected == [uuid] and disk.uuids() == set()


def test_gc_mark_takes_one_pod_or_all(disk: Disk) -> None:
    folders = [disk.pod() for _ in range(3)]
    ref = lifecycle.find(disk.data, os.path.basename(folders[1]))
    assert mark(disk.data, disk.config, expire_prepared=1.0, only=ref, dry_run=True) == [ref.uuid]
    assert mark(disk.data, disk.config, expire_prepared=1.0, only=ref) == [ref.uuid]
    assert set(mark(disk.data, disk.config, expire_prepared=1.0)) == {os.path.basename(f) for f in folders} - {ref.uuid}


def test_gc_of_one_leaves_the_others(disk: Disk) -> None:
    uuids = sorted(os.path.basename(disk.pod()) for _ in range(3))
    assert disk.collect(only=uuids[1]).collected == [uuids[1]]
    assert disk.uuids() == {uuids[0], uuids[2]}
    assert disk.collect(only=uuids[1]).collected == []


def test_gc_expires_prepared_pods_by_age(disk: Disk) -> None:
    old, new, future = (
        os.path.basename(disk.pod("prepared", ran=False, created=created))
        for created in ("2001-01-01T00:00:00Z", rfc3339(), "2999-01-01T00:00:00Z")
    )
    assert disk.collect().collected == [old]
    assert set(disk.collect(expire_prepared=0.0).collected) == {new, future}


def test_gc_does_not_lock_a_prepared_pod_that_is_young(disk: Disk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever runs it right now would find it locked."""
    disk.pod("prepared", ran=False)
    locked = []
    monkeypatch.setattr("podium.gc.marking.lock.try_lock", locked.append)
    assert disk.collect().marked == [] and locked == []


def test_gc_leaves_what_a_newer_podium_forbids_to_touch(disk: Disk) -> None:
    folder = disk.pod(features=Features(incompat=("from-the-future",)))
    collected = disk.pod(features=Features(ro_compat=("from-the-future",), compat=("whatever",)))
    report = disk.collect()
    assert report.collected == [os.path.basename(collected)]
    (failure,) = report.failed
    assert (
        failure.reason == NewerFormat.reason and "from-the-future" in failure.message and "podium 99" in failure.message
    )
    assert sorted(os.listdir(folder)) == ["envelope.json", "runtime.json", "stage1", "status"]


@pytest.mark.parametrize("damage", ["empty", "missing", "nul", "swapped", "folder", "huge"])
@pytest.mark.parametrize("file", ["envelope.json", "pod", "ledger", "runtime.json", "status/app.json"])
def test_gc_collects_a_damaged_pod_and_tells(disk: Disk, file: str, damage: str) -> None:
    folder, sound = disk.pod(), disk.pod()
    path = os.path.join(folder, file)
    if os.path.exists(path):
        os.unlink(path)
    if damage == "folder":
        os.makedirs(os.path.join(path, "deep"))
    elif damage == "swapped":
        subprocess.run(["cp", "-p", os.path.join(sound, "envelope.json"), path], check=True)
    elif damage != "missing":
        with open(path, "wb") as f:
            f.write(b"\0" * 100 if damage == "nul" else b"")
            f.truncate(100 << 20 if damage == "huge" else f.tell())
    report = disk.collect()
    assert set(report.collected) == {os.path.basename(folder), os.path.basename(sound)}, report
    if file == "envelope.json":
        told = [d for d in report.dispatch if d.uuid == os.path.basename(folder)]
        assert [(d.stage1, d.via) for d in told] == [("unknown", "ledger")] and os.path.basename(folder) in told[0].why


def test_gc_collects_a_pod_with_a_damaged_record_through_its_plugin(podium: Podium, busybox: str) -> None:
    uuids = [run(podium, busybox) for _ in range(3)]
    for uuid, name in zip(uuids, ("pod", "ledger", "runtime.json"), strict=True):
        with open(os.path.join(podium.dir, "pods/run", uuid, name), "wb") as f:
            f.truncate(100 << 20)
    report = podium.json(*NOW)
    assert set(report["collected"]) == set(uuids)
    assert {way["via"] for way in report["dispatch"]} == {"installed"}


def test_gc_failed_is_listed_and_counts(podium: Podium, busybox: str) -> None:
    uuid = run(podium, busybox)
    from support.disk import hold

    folder = os.path.join(podium.dir, "pods/run", uuid)
    hold(folder, "address", "10.1.2.3")
    for attempt in (1, 2):
        report = podium.json(*NOW, check=6)
        assert [(f["uuid"], f["reason"], f["attempts"]) for f in report["failed"]] == [(uuid, "no-reclaimer", attempt)]
    pod = podium.pods()[uuid]
    assert pod["state"] == "gc-failed" and pod["problem"]["reason"] == "no-reclaimer"
    record = records.read(os.path.join(podium.dir, "pods/exited-garbage", uuid, GC_FAILED))
    assert record["first"] <= record["last"] and "10.1.2.3" in record["message"]
    assert podium("rm", uuid, check=None).returncode != 0


def test_gc_deletes_what_a_killed_gc_left(disk: Disk) -> None:
    uuid = lifecycle.new_uuid()
    os.makedirs(os.path.join(disk.data.tmp, f"gc-{uuid}", "stage1"))
    busy = os.path.join(disk.data.tmp, f"gc-{lifecycle.new_uuid()}")
    os.mkdir(busy)
    fd = os.open(busy, os.O_RDONLY)
    fcntl.flock(fd, fcntl.LOCK_EX)
    os.mkdir(os.path.join(disk.data.tmp, f"pod-{uuid}"))  # may be just being made
    assert disk.collect().collected == [uuid]
    assert disk.uuids() == {os.path.basename(busy), f"pod-{uuid}"}
    os.close(fd)


POINTS = (
    "gc:mark", "gc:marked", "gc:locked", "call:gc", "gc:plugin-done", "gc:ledger-done", "gc:audited",
    "gc:verified", "gc:delete", "gc:deleting", "gc:deleted",
)  # fmt: skip


@pytest.mark.parametrize("point", POINTS)
def test_gc_killed_at_any_point_is_finished_by_the_next(podium: Podium, busybox: str, point: str) -> None:
    uuids = {run(podium, busybox) for _ in range(2)}
    killed = podium.using(podium.binary, PODIUM_TRACE_KILL=point)(*NOW, check=None)
    assert killed.returncode == -signal.SIGKILL
    for uuid, pod in podium.pods().items():
        assert uuid in uuids and pod["state"] in ("exited", "exited-garbage") and pod["problem"] is None
    podium(*NOW)
    assert podium.pods() == {}
    left = {phase: os.listdir(os.path.join(podium.dir, "pods", phase)) for phase in os.listdir(f"{podium.dir}/pods")}
    assert not any(left.values()) and os.listdir(os.path.join(podium.dir, "tmp")) == []


def test_gc_collects_many_at_once(disk: Disk) -> None:
    uuids = {os.path.basename(disk.pod()) for _ in range(150)}
    assert set(disk.collect().collected) == uuids and disk.uuids() == set()


def test_gc_ends_a_pod_whose_processes_outlive_its_supervisor(disk: Disk) -> None:
    from podium.linux import cgroup

    folder = disk.pod()
    uuid = os.path.basename(folder)
    cgroup.create(disk.cgroup(uuid))
    with sleeper() as process:
        cgroup.enter(disk.cgroup(uuid), process.pid)
        assert disk.collect(dry_run=True).collected == [uuid] and process.poll() is None
        report = disk.collect()
        assert process.wait(5) == -9
    assert report.collected == [uuid] and [(r.kind, r.by) for r in report.released] == [("cgroup", "audit")]


def test_gc_report_is_json(disk: Disk) -> None:
    disk.pod()
    report = json.loads(json.dumps(disk.collect().to_json()))
    assert list(report) == ["schema", "marked", "collected", "kept", "failed", "released", "dispatch"]
