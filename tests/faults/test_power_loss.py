"""Fault 17: the power goes at any moment; what is on the disk then is the state before or after, never a third."""

from __future__ import annotations

import json
import os
import random
import subprocess
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from podium.testing.checks.leaks import reached
from support import sweep
from support.command import Podium
from support.crashes import FLY, GC, IMAGE_GC, TRUE, Host
from support.power import Disk, VolatileDisk
from support.snapshot import Scope

POINTS = 2  # losses of power at trace points of each act, unless in a sweep
MOMENTS = 100 if sweep.LONG else 3  # and at random moments
RANDOM = int(os.environ.get("SWEEP_SEED", "17"))


def _import(host: Host) -> tuple[str, ...]:
    return ("image", "import", host.another_rootfs(), "--name", "other", "--exec", "/bin/true")


def _prepare(host: Host) -> tuple[str, ...]:
    return ("prepare", *FLY, *TRUE)


def _run(host: Host) -> tuple[str, ...]:
    return ("run", *FLY, *TRUE)


def _gc(host: Host) -> tuple[str, ...]:
    host.abandoned()
    host.prepare()
    return GC


def _image_gc(host: Host) -> tuple[str, ...]:
    host.unnamed()
    return IMAGE_GC


ACTS: dict[str, Callable[[Host], tuple[str, ...]]] = {
    act.__name__.lstrip("_"): act for act in (_import, _prepare, _run, _gc, _image_gc)
}


@pytest.fixture
def disk(request: pytest.FixtureRequest, test_dir: str, host_guard: object) -> Iterator[Disk]:
    """An ordinary one, or what the test asks for: a class of support.power."""
    volatile = getattr(request, "param", Disk) is VolatileDisk
    disk = VolatileDisk(test_dir, random.Random(RANDOM)) if volatile else Disk(test_dir)
    disk.mount()
    yield disk
    disk.unmount()


@pytest.fixture
def host(disk: Disk, config_file: str, scope: Scope, busybox_rootfs: str, test_dir: str) -> Host:
    podium = Podium(os.path.join(disk.folder, "data"), config_file, scope)
    host = Host.make(podium, busybox_rootfs, test_dir)
    os.sync()
    return host


class Mains:
    """What is there to lose power, and what has to be there afterwards."""

    def __init__(self, host: Host, disk: Disk, scope: Scope, config_file: str) -> None:
        self.host = host
        self.disk = disk
        self.scope = scope
        self.config = config_file

    @property
    def kind(self) -> str:
        """What a sweep's table adds to a loss of power."""
        return ", and any part of what was not flushed" if isinstance(self.disk, VolatileDisk) else ""

    def lost(self) -> list[str]:
        """Lose power now; what is wrong afterwards."""
        self.disk.lose_power()
        self.host.let_end()
        self.host.forked(*GC)
        with self.disk.afterwards() as folder:
            after = Podium(os.path.join(folder, "data"), self.config, self.scope)
            return self._wrong(Host(after, self.host.rootfs, folder))

    def images(self) -> set[str]:
        """Names of the images as they would be after a loss of power now."""
        self.disk.lose_power()
        with self.disk.afterwards() as folder:
            podium = Podium(os.path.join(folder, "data"), self.config, self.scope)
            return {image["name"] for image in podium.json("image", "list")["images"]}

    def pods(self) -> set[str]:
        """uuids of the prepared pods, likewise."""
        self.disk.lose_power()
        with self.disk.afterwards() as folder:
            pods = Podium(os.path.join(folder, "data"), self.config, self.scope).pods()
            return {uuid for uuid, pod in pods.items() if pod["state"] == "prepared" and pod["problem"] is None}

    def _wrong(self, host: Host) -> list[str]:
        wrong = []
        for words in (("list",), ("image", "list"), ("fsck",), GC, ("image", "verify"), ("fsck",)):
            done = host.forked(*words, check=None)
            if done.code:
                wrong.append(f"{' '.join(words)} exited {done.code}: {done.out}{done.err}")
        if host.pods():
            wrong.append(f"left after gc: {host.pods()}")
        listed = json.loads(host.forked("image", "list", "--format", "json").out)["images"]
        images = {image["name"] for image in listed} - {None}
        if not {"box"} <= images <= {"box", "other", "passing"}:
            wrong.append(f"the images are {images}")
        for image in images:
            ran = host.podium("run", "--rm", *FLY, image, "--exec", "/bin/busybox", "--", "echo", "fine", check=None)
            if ran.stdout != "fine\n":
                wrong.append(f"{image} does not run: {ran}")
        return wrong


@pytest.fixture
def mains(host: Host, disk: Disk, scope: Scope, config_file: str) -> Mains:
    return Mains(host, disk, scope, config_file)


DISKS = pytest.mark.parametrize("disk", [Disk, VolatileDisk], indirect=True, ids=["in order", "cache lost"])


@DISKS
@pytest.mark.parametrize("name", ACTS)
def test_17_power_is_lost_at_a_step(mains: Mains, name: str) -> None:
    host, act, log = mains.host, ACTS[name], os.path.join(mains.host.folder, "points")
    if isinstance(mains.disk, VolatileDisk) != (list(ACTS).index(name) % 2 == 1) and not sweep.LONG:
        pytest.skip("a run of CI loses the cache in every second act only")
    host.podium.using(host.podium.binary, PODIUM_TRACE_LOG=log)(*act(host))
    host.forked(*GC)
    wrong = []
    row = f"power lost at a trace point of {name.replace('_', ' ')}{mains.kind}"
    for point in sweep.todo(row, reached(log), POINTS):
        host.podium.using(host.podium.binary, PODIUM_TRACE_KILL=point)(*act(host), check=None)
        faults = mains.lost()
        wrong += [f"{point}: {faults}"] if faults else []
        sweep.record(row, point, "\n".join(faults) or None)
    assert not wrong, "\n".join(wrong)


@DISKS
def test_17_power_is_lost_at_any_moment(mains: Mains) -> None:
    wrong = []
    row = f"power lost at a random moment{mains.kind}"
    done = 0
    for number in sweep.todo(row, range(RANDOM * 1000, RANDOM * 1000 + MOMENTS), MOMENTS):
        chance = random.Random(number)
        name, act = chance.choice([*ACTS.items()])
        moment = chance.uniform(0.05, 0.6)
        process = mains.host.podium.start(*act(mains.host), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(moment)
        faults = mains.lost()
        process.wait()
        wrong += [f"{number}: {name} after {moment:.3f} s: {faults}"] if faults else []
        sweep.record(row, number, "\n".join(faults) or None)
        done += 1
    if isinstance(mains.disk, VolatileDisk) and done >= 3:
        assert mains.disk.flushes > done and mains.disk.unflushed, "nothing was at stake"
    assert not wrong, "\n".join(wrong)


def _sync(path: str) -> None:
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def test_17_events_of_pods_outlive_a_loss_of_power(mains: Mains) -> None:
    """The worst case: what says that they were logged is on the disk, the end of the log is not."""
    podium = mains.host.podium
    uuid = podium.out("prepare", *FLY, *TRUE)
    podium("run-prepared", uuid)
    told = [event["kind"] for event in _events(podium, uuid)]
    assert told == ["pod-prepared", "pod-started", "app-exited", "pod-exited"]
    _sync(os.path.join(podium.dir, "pods/run", uuid, "events"))
    with open(os.path.join(podium.dir, "events", "delivered"), "w", encoding="ascii") as f:
        f.write("4")  # and a hook was told of them
    _sync(f.name)
    mains.disk.lose_power()
    with mains.disk.afterwards() as folder:
        after = Podium(os.path.join(folder, "data"), mains.config, mains.scope)
        log, noted = os.path.join(after.dir, "events/log"), os.path.join(after.dir, "pods/run", uuid, "events")
        with open(noted, "r+", encoding="ascii") as f:
            assert "exited\n" in f.read()
            f.seek(0)
            f.write("boot:00000000-0000-4000-8000-000000000000\n")  # a machine that was without power has another
        with open(log, encoding="utf-8") as f:
            assert uuid not in f.read()  # or the disk was too quick for this test
        again = _events(after, uuid)
        assert [event["kind"] for event in again] == told
        assert min(event["seq"] for event in again) > 4
        assert _events(after, uuid) == again  # once
    podium(*GC)


def _events(podium: Podium, uuid: str) -> list[dict[str, Any]]:
    lines = podium.out("events", "--filter", f"subject={uuid}", "--format", "json").splitlines()
    return [json.loads(line) for line in lines]


def test_17_events_of_a_gc_and_of_images_are_synced(mains: Mains) -> None:
    podium = mains.host.podium
    uuid = podium.out("prepare", *FLY, *TRUE)
    podium(*GC)
    podium("image", "import", mains.host.another_rootfs(), "--name", "other", "--exec", "/bin/true")
    podium("image", "rm", "other")
    mains.disk.lose_power()
    with mains.disk.afterwards() as folder:
        after = Podium(os.path.join(folder, "data"), mains.config, mains.scope)
        kinds = [json.loads(line)["kind"] for line in after.out("events", "--format", "json").splitlines()]
        assert kinds[-5:] == ["pod-prepared", "pod-marked", "pod-collected", "image-imported", "image-removed"]
        assert _events(after, uuid)[-1]["kind"] == "pod-collected"


def test_17_what_has_been_said_to_be_done_outlives_a_loss_of_power(mains: Mains) -> None:
    mains.host.podium(*_import(mains.host))
    assert mains.images() == {"box", "other"}
    uuid = mains.host.podium.out(*_prepare(mains.host))
    assert mains.pods() == {uuid}
    mains.host.podium("rm", uuid)


@pytest.mark.parametrize("disk", [VolatileDisk], indirect=True)
def test_17_what_a_plugin_made_for_a_prepared_pod_outlives_a_loss_of_power(mains: Mains) -> None:
    uuid = mains.host.podium.out("prepare", "--stage1", "kvm", "--net", "none", *TRUE)
    before = _contents(mains.host.podium.dir, uuid)
    assert {"initrd", "rw"} <= {os.path.basename(path) for path in before}
    mains.disk.lose_power()
    with mains.disk.afterwards() as folder:
        assert _contents(os.path.join(folder, "data"), uuid) == before


def _contents(data: str, uuid: str) -> dict[str, list[bytes]]:
    """Path in the pod → what the file holds, without what is a hole or zero."""
    pod = os.path.join(data, "pods", "prepared", uuid)
    found = {}
    for folder, _, names in os.walk(os.path.join(pod, "stage1")):
        for name in names:
            path = os.path.join(folder, name)
            if os.path.isfile(path):
                found[os.path.relpath(path, pod)] = _extents(path)
    return found


def _extents(path: str) -> list[bytes]:
    held, end = [], 0
    with open(path, "rb") as file:
        while end < os.path.getsize(path):
            try:
                begin = os.lseek(file.fileno(), end, os.SEEK_DATA)
            except OSError:
                break
            end = os.lseek(file.fileno(), begin, os.SEEK_HOLE)
            held += [page for at in range(begin, end, 4096) if (page := os.pread(file.fileno(), 4096, at)).strip(b"\0")]
    return held
