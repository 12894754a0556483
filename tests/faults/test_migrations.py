"""Faults 23, 24, 26: data of an earlier format, from the corpus, is migrated, wherever that is stopped."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import shutil
import sqlite3
import subprocess
from collections.abc import Callable, Iterator

import pytest

from podium import format, records
from podium.errors import InUse
from podium.paths import DataDir
from podium.store import index, migrating, migrations
from support import cleanup, sweep, tracer
from support.command import Podium
from support.damage import Answer, podium_forked
from support.injections import on_copies, traced
from support.old_data import alone, unpack
from support.tracer import Call, Fault

POINTS = ("backup", "begin-2", "applied-2", "format-2", "index-2")


@pytest.fixture(scope="module")
def unpacked(session_dir: str) -> Iterator[str]:
    """Data of format 1; must not be changed."""
    folder = os.path.join(session_dir, "migrations")
    os.mkdir(folder)
    with alone():
        yield unpack("format-1", folder)
    cleanup.remove_folder(folder)


@pytest.fixture
def old(podium: Podium, unpacked: str) -> DataDir:
    subprocess.run(["cp", "--archive", unpacked, podium.dir], check=True)
    return DataDir(podium.dir)


def _content(path: str) -> bytes:
    with open(path, "rb") as f:
        return f.read()


def _tables(path: str) -> list[str]:
    db = sqlite3.connect(path)
    try:
        return [*db.iterdump(), *map(str, db.execute("PRAGMA user_version"))]
    finally:
        db.close()


def _format(data: DataDir) -> dict[str, object]:
    content = json.loads(_content(data.format))
    assert isinstance(content, dict)
    return content


def _log(data: DataDir) -> list[tuple[int, str]]:
    lines = [records.unseal(line, "log") for line in _content(data.migrations).splitlines()]
    return [(line["migration"], line["op"]) for line in lines]


def test_steps_are_in_order_and_tested() -> None:
    assert [step.format for step in migrating.STEPS] == list(range(2, format.VERSION + 1))
    wanted = [f"test_format_{step.format}" for step in migrating.STEPS]
    wanted += [f"test_index_{version}" for version in range(1, migrations.VERSION + 1)]
    assert [name for name in wanted if name not in globals()] == [], "each migration has a test"
    flags = [set(getattr(step.flags, kind)) for step in migrating.STEPS for kind in step.flags._fields]
    assert set().union(*flags) == {flag for kind in format.FLAGS for flag in kind}


def test_format_2(old: DataDir, podium: Podium) -> None:
    used = os.path.join(old.cache, "used")
    (digits,) = os.listdir(used)
    before = os.stat(os.path.join(used, digits)).st_mtime_ns
    for _ in (1, 2):  # a step may be done twice
        migrating.STEPS[0].apply(old)
        assert os.stat(old.used(digits)).st_mtime_ns // 1000 == before // 1000
        assert not os.path.exists(used)
    os.mkdir(used)
    with open(os.path.join(used, digits), "w"):
        os.utime(os.path.join(used, digits), (5, 5))
    migrating.STEPS[0].apply(old)  # an older podium was still at work: the later time counts
    assert os.stat(old.used(digits)).st_mtime_ns // 1000 == before // 1000


def test_index_1() -> None:
    db = sqlite3.connect(":memory:")
    migrations.STEPS[0](db)
    assert {row[0] for row in db.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")} == {
        "images",
        "names",
        "blobs",
    }
    db.close()


def test_index_2(old: DataDir, podium: Podium) -> None:
    assert index.schema(old) == 1
    assert index.migrate(old) == [2] and index.migrate(old) == []
    assert index.schema(old) == 2
    assert [i.name for i in index.survey(old)[0]] == ["box"]


def test_24_a_migrated_directory_equals_a_fresh_one(old: DataDir, podium: Podium) -> None:
    podium("migrate")
    index.survey(old)
    migrated = _tables(old.index)
    os.unlink(old.index)
    index.survey(old)
    assert _tables(old.index) == migrated
    fresh = {k: v for k, v in format.initial().items() if k != "written_by"}
    assert {k: v for k, v in _format(old).items() if k != "written_by"} == fresh


@pytest.mark.parametrize("point", POINTS)
def test_23_a_migration_that_is_killed_is_done_again(old: DataDir, podium: Podium, point: str) -> None:
    before, images = _content(old.format), podium.json("image", "list")
    podium.using(podium.binary, PODIUM_TRACE_KILL=f"migrate:{point}")("migrate", check=-9)
    assert len(podium.pods()) == 12 and podium.json("image", "list")["images"][0]["name"] == "box"
    podium("migrate")
    podium("migrate", "--check")
    assert _format(old)["format"] == format.VERSION and index.schema(old) == migrations.VERSION
    assert _content(os.path.join(old.backup, "format-1", "format.json")) == before
    assert set(_log(old)) >= {(2, "begin")}
    assert podium.json("image", "list") == images
    assert not os.path.exists(os.path.join(old.cache, "used"))
    sweep.record("SIGKILL at a trace point of migrate", point, None)


@pytest.mark.skipif(not tracer.SUPPORTED, reason="the tracer knows the registers of x86_64 alone")
def test_23_a_call_of_a_migration_fails(unpacked: str, podium: Podium) -> None:
    data = DataDir(podium.dir)

    def copy() -> Callable[[], str | None]:
        cleanup.remove(podium.dir)
        subprocess.run(["cp", "--archive", unpacked, podium.dir], check=True)
        return wrong

    def forked(*words: str) -> Answer:
        return podium_forked(podium.argv(*words)[1:])

    def listed() -> tuple[object, object]:
        pods, images = (json.loads(forked(*words, "--format", "json").out) for words in (("list",), ("image", "list")))
        return [pod["uuid"] for pod in pods["pods"]], images["images"]

    def wrong() -> str | None:
        """Nothing is lost before the next migration, which does the rest."""
        before = listed()
        for words in (("migrate",), ("migrate", "--check"), ("fsck",)):
            done = forked(*words)
            if done.code:
                return f"{words} exited {done.code}: {done.out}{done.err}"
        if not (before == listed() == whole):
            return f"{before} became {listed()}"
        state = (_format(data)["format"], index.schema(data), os.path.exists(os.path.join(data.cache, "used")))
        return None if state == (format.VERSION, migrations.VERSION, False) else f"it is {state}"

    copy()
    whole = listed()
    faults = on_copies("migrate", podium, ("migrate",), 1, copy)
    assert not faults, "\n".join(faults)


@pytest.mark.skipif(not tracer.SUPPORTED, reason="the tracer knows the registers of x86_64 alone")
def test_23_an_index_that_can_not_be_written_is_told_of(old: DataDir, podium: Podium) -> None:
    fault = Fault(Call("migrate:format-N openat /index.db-journal", 1), errno.ENOSPC)
    with traced(podium, ("migrate",), fault) as done:
        assert done.code == 1
    assert done.hit() is not None and f"{old.index} can't be migrated" in done.err and "internal" not in done.err
    podium("migrate")
    assert index.schema(old) == migrations.VERSION


def test_26_any_command_may_come_first(old: DataDir, podium: Podium, test_dir: str) -> None:
    before = (_content(old.format), _content(old.index))
    images = podium.json("image", "list")
    assert images["images"][0]["last_used"]
    for reading in (("list",), ("status", "marked"), ("image", "list"), ("inspect", "marked"), ("stage1", "pins")):
        podium(*reading)
    podium("migrate", "--check", check=4)
    assert (_content(old.format), _content(old.index)) == before, "reading migrated"
    shutil.rmtree(os.path.join(old.pods, "garbage"))
    told = podium("image", "tag", "box", "carton").stderr
    assert "format 2" in told and "index of schema 2" in told
    assert _log(old) == [(2, "begin"), (2, "done")]
    assert podium.json("image", "list")["images"][0]["last_used"] == images["images"][0]["last_used"]
    assert podium("image", "tag", "box", "crate").stderr == ""
    assert podium.json("migrate")["steps"] == []


def test_who_is_in_the_way_is_told(old: DataDir, podium: Podium) -> None:
    told: list[str] = []
    fd = os.open(os.path.join(old.locks, "store"), os.O_RDWR | os.O_CREAT)
    try:
        fcntl.flock(fd, fcntl.LOCK_SH)
        pid = os.fork()
        if pid == 0:  # another process, which sees our lock as somebody else's
            os.close(fd)
            try:
                migrating.migrate(old, told.append, patience=0.1)
            except InUse as e:
                named = f"process {os.getppid()} " in e.message and f"process {os.getppid()} " in told[0]
                os._exit(0 if named else 2)
            os._exit(3)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        assert podium.pods()
    finally:
        os.close(fd)
    migrating.migrate(old, told.append)
    assert told and _format(old)["format"] == 2


@pytest.mark.parametrize(
    ("kind", "flag", "reads", "writes"),
    [
        ("compat", "noop-compat", 0, 0),
        ("ro_compat", "noop-ro-compat", 0, 0),
        ("incompat", "noop-incompat", 0, 0),
        ("compat", "from-the-future", 0, 0),
        ("ro_compat", "from-the-future", 0, 5),
        ("incompat", "from-the-future", 5, 5),
    ],
)
def test_flags_of_a_data_directory(podium: Podium, kind: str, flag: str, reads: int, writes: int) -> None:
    data = DataDir(podium.dir)
    format.ensure(data)
    content = _format(data)
    assert isinstance(content[kind], list)
    content |= {kind: [*content[kind], flag], "written_by": "podium 9.9", "format": 9}
    with open(data.format, "w") as f:
        json.dump(content, f)
    before = _content(data.format)
    assert ("podium 9.9" in podium("list", check=reads).stderr) == bool(reads)
    podium("gc", check=reads)
    done = podium("image", "gc", check=writes)
    assert not writes or ("'from-the-future'" in done.stderr and "podium 9.9" in done.stderr)
    assert _content(data.format) == before
