"""fsck finds each damage by name, repairs what can be made anew, and deletes nothing."""

from __future__ import annotations

import glob
import json
import os
import shutil
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from podium import records
from podium.paths import DataDir
from podium.store import index
from support import sweep
from support.command import Podium
from support.damage import podium_forked
from support.snapshot import Scope

FLY = ("--stage1", "fly", "--net", "host")
UUID = "11111111-2222-4333-8444-555555555555"


@pytest.fixture(scope="module")
def base(session_dir: str, config_file: str, scope: Scope, busybox_oci: str) -> Iterator[str]:
    """A data directory with an image, a pod that is prepared and one that has ended."""
    made = Podium(os.path.join(session_dir, "fsck-base"), config_file, scope)
    made("image", "import", busybox_oci, "--name", "box")
    made("prepare", *FLY, "--name", "ready", "box", "--exec", "/bin/echo", "--", "ran")
    made("run", *FLY, "--name", "ended", "box", "--exec", "/bin/sh", "--", "-c", "exit 3", check=3)
    yield made.dir
    made("gc", "--grace-period", "0s", "--expire-prepared", "0s")
    shutil.rmtree(made.dir)


def _copy(base: str, podium: Podium) -> DataDir:
    subprocess.run(["cp", "--archive", base, podium.dir], check=True)
    data = DataDir(podium.dir)
    index.survey(data)  # it knows the copies' inodes now
    return data


@pytest.fixture
def data(base: str, podium: Podium) -> DataDir:
    return _copy(base, podium)


def _one(*parts: str) -> str:
    (path,) = glob.glob(os.path.join(*parts))
    return path


def _flip(path: str, at: float = 0.5) -> None:
    mode = os.stat(path).st_mode
    os.chmod(path, 0o644)
    with open(path, "r+b") as f:
        f.seek(int(os.path.getsize(path) * at))
        byte = f.read(1)
        f.seek(-1, os.SEEK_CUR)
        f.write(bytes([byte[0] ^ 0x10]))
    os.chmod(path, mode)


def _write(path: str, content: bytes = b"") -> None:
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as f:
        f.write(content)


def _largest_blob(data: DataDir) -> str:
    return max(glob.glob(os.path.join(data.blobs, "*")), key=os.path.getsize)


def _pod(data: DataDir, name: str) -> str:
    for folder in glob.glob(os.path.join(data.pods, "*", "*")):
        if records.read(os.path.join(folder, "envelope.json"))["name"] == name:
            return folder
    raise AssertionError(name)


def _lie(data: DataDir) -> None:
    db = sqlite3.connect(data.index)
    db.execute("UPDATE names SET reference = 'other:latest'")
    db.commit()
    db.close()


def _no_manifest_yet(data: DataDir) -> None:
    os.rename(_one(data.trees, "*", "tree.json"), os.path.join(data.cache, "kept"))


def _second_tree(data: DataDir) -> None:
    os.makedirs(os.path.join(data.trees, "f" * 64 + "-1", "rootfs"))


# damage → (what does it, the kinds that are found, whether it is damage, whether a repair mends all of it)
CASES: dict[str, tuple[Callable[[DataDir], object], set[str], bool, bool]] = {
    "nothing": (lambda d: None, set(), False, True),
    "format lost": (lambda d: os.unlink(d.format), {"format-damaged"}, True, True),
    "format empty": (lambda d: _write(d.format), {"format-damaged"}, True, True),
    "index lost": (lambda d: os.unlink(d.index), {"index"}, False, True),
    "index empty": (lambda d: _write(d.index), {"index"}, True, True),
    "index truncated": (lambda d: os.truncate(d.index, 5000), {"index"}, True, True),
    "index header flipped": (lambda d: _flip(d.index, 0.0), {"index"}, True, True),
    "index says something else": (_lie, {"index"}, True, True),
    "blob flipped": (lambda d: _flip(_largest_blob(d)), {"blob-altered"}, True, False),
    "blob missing": (lambda d: os.unlink(_largest_blob(d)), {"blob-missing"}, True, False),
    "blob nobody needs": (lambda d: _write(d.blob("a" * 64), b"x"), {"blob-orphan"}, False, True),
    "image record flipped": (lambda d: _flip(_one(d.images, "*.json")), {"image-damaged", "pod-image"}, True, False),
    "use of an image that is gone": (lambda d: _write(d.used("a" * 64)), {"image-used"}, False, True),
    "tree altered": (lambda d: _flip(_one(d.trees, "*", "rootfs/etc/passwd")), {"tree-altered"}, True, True),
    "tree without record": (_no_manifest_yet, {"tree-missing"}, True, True),
    "tree missing": (lambda d: shutil.rmtree(_one(d.trees, "*")), {"tree-missing"}, True, True),
    "half a tree": (_second_tree, {"tree-orphan"}, False, True),
    "pin altered": (lambda d: _flip(_one(d.pins, "*/lib/podium/trace.py")), {"pin-damaged"}, True, True),
    "pin missing": (lambda d: shutil.rmtree(_one(d.pins, "*")), {"pin-missing"}, True, True),
    "half a pin": (lambda d: os.mkdir(d.pin("sha256-" + "a" * 64)), {"pin-half-made"}, False, True),
    "envelope flipped": (lambda d: _flip(_pod(d, "ready") + "/envelope.json"), {"pod-envelope"}, True, False),
    "envelope missing": (lambda d: os.unlink(_pod(d, "ready") + "/envelope.json"), {"pod-envelope"}, True, False),
    "ledger flipped": (lambda d: _flip(_pod(d, "ended") + "/ledger"), {"pod-ledger"}, True, False),
    "manifest cut": (lambda d: os.truncate(_pod(d, "ready") + "/pod", 300), {"pod-manifest"}, True, False),
    "run record flipped": (lambda d: _flip(_pod(d, "ended") + "/runtime.json"), {"pod-record"}, True, False),
    "embryo": (lambda d: os.mkdir(d.pod("embryo", UUID)), {"pod-abandoned"}, False, True),
    "workspace": (lambda d: _write(os.path.join(d.tmp, "image-1-a", "blobs", "b")), {"temporary"}, False, True),
    "half a record": (lambda d: _write(os.path.join(d.images, ".tmp-999999999-a")), {"temporary"}, False, True),
    "erofs of no tree": (lambda d: _write(os.path.join(d.erofs, "a-1.img")), {"erofs-orphan"}, False, True),
    "kernel without record": (
        lambda d: _write(os.path.join(d.kernels, "sha256-" + "a" * 64, "vmlinux"), b"x"),
        {"kernel-damaged"},
        True,
        True,
    ),
    "kernel of a pod missing": (
        lambda d: _write(os.path.join(_pod(d, "ready"), "stage1", "kernel"), b"sha256:" + b"a" * 64 + b"\n"),
        {"kernel-missing"},
        True,
        False,
    ),
    "event flipped": (lambda d: _flip(os.path.join(d.events, "log")), {"events-damaged"}, False, False),
    "erofs without record": (
        lambda d: _write(os.path.join(d.erofs, os.listdir(d.trees)[0] + ".img")),
        {"erofs-damaged"},
        True,
        True,
    ),
}


def _kinds(report: Any) -> set[str]:
    return {found["kind"] for found in report["findings"]}


def _content(root: str) -> dict[str, bytes]:
    """Every file but the lock files, and what SQLite makes beside what it reads."""
    found = {}
    for top, _, files in os.walk(root):
        for name in files:
            if (
                "/locks" not in top
                and not os.path.islink(os.path.join(top, name))
                and not name.endswith(("-journal", "-shm", "-wal"))
            ):
                with open(os.path.join(top, name), "rb") as f:
                    found[os.path.relpath(os.path.join(top, name), root)] = f.read()
    return found


# Repairs after which a pod is run, to see that they are good.
RUN_AFTER = {
    "nothing",
    "format lost",
    "tree altered",
    "tree without record",
    "tree missing",
    "pin altered",
    "pin missing",
}


def _fsck(podium: Podium, code: int, *words: str) -> Any:
    done = podium_forked(podium.argv("fsck", "--format", "json", *words)[1:])
    assert done.code == code, f"fsck {words} exited {done.code}\n{done.out}\n{done.err}"
    return json.loads(done.out)


def _try(data: DataDir, podium: Podium, case: str) -> None:
    apply, kinds, damage, mended = CASES[case]
    apply(data)
    before = _content(data.root)
    found = _fsck(podium, 6 if damage else 0)
    assert _kinds(found) == kinds
    assert all(f["message"] and f["advice"] for f in found["findings"])
    assert _content(data.root) == before, "a check changed something"
    assert _kinds(_fsck(podium, 6 if damage and not mended else 0, "--repair")) == kinds
    after = _content(data.root)
    gone = {path for path, content in before.items() if content and content not in after.values()}
    assert not gone, "a repair deleted something"
    if mended:
        assert _fsck(podium, 0)["findings"] == []
        assert case not in RUN_AFTER or podium.out("run-prepared", "ready") == "ran"
    elif kinds <= {"pod-envelope", "pod-ledger", "pod-manifest", "pod-record"}:
        podium("gc", "--grace-period", "0s", "--expire-prepared", "0s")
        assert podium.pods() == {} and _fsck(podium, 0)["findings"] == []


def test_damage_is_found_and_repaired(base: str, podium: Podium) -> None:
    failed = []
    for case in CASES:
        data = _copy(base, podium)
        try:
            _try(data, podium, case)
        except AssertionError as e:
            failed.append(f"{case}: {e}")
        shutil.rmtree(data.root)
    assert not failed, "\n".join(failed)


@pytest.mark.parametrize("case", ["blob flipped", "image record flipped"])
def test_what_is_lost_comes_back_with_the_image(data: DataDir, podium: Podium, busybox_oci: str, case: str) -> None:
    CASES[case][0](data)
    told = podium("fsck", "--repair", check=6).stdout
    assert "to do: import" in told
    podium("image", "import", busybox_oci, "--name", "box")
    assert podium.json("fsck")["findings"] == []
    assert podium.out("run-prepared", "ready") == "ran"


def test_nothing_is_taken_from_who_is_at_work(data: DataDir, podium: Podium) -> None:
    import fcntl

    held = [os.path.join(data.tmp, "image-2-b"), data.pod("embryo", UUID)]
    fds = []
    for path in held:
        os.mkdir(path)
        fds.append(os.open(path, os.O_RDONLY))
        fcntl.flock(fds[-1], fcntl.LOCK_EX)
    _write(os.path.join(data.images, f".tmp-{os.getpid()}-a"))
    try:
        assert podium.json("fsck", "--repair")["findings"] == []
        assert all(map(os.path.isdir, held))
    finally:
        for fd in fds:
            os.close(fd)


def test_a_repair_that_is_killed_is_done_again(data: DataDir, podium: Podium) -> None:
    _flip(_one(data.trees, "*", "rootfs/etc/passwd"))
    CASES["blob nobody needs"][0](data)
    CASES["use of an image that is gone"][0](data)
    killed, kills = podium.using(podium.binary, PODIUM_TRACE_KILL="fsck:moved"), 0
    while killed("fsck", "--repair", check=None).returncode != 0:
        kills += 1
        assert kills < 10, "it makes no progress"
    sweep.record("SIGKILL at each trace point of fsck --repair", kills, 0)
    assert _kinds(podium.json("fsck", "--repair")) <= {"temporary"}
    assert podium.json("fsck")["findings"] == []
    assert podium.out("run-prepared", "ready") == "ran"


def test_pod_manifest_fault_has_its_place(data: DataDir, podium: Podium) -> None:
    folder = _pod(data, "ready")
    with open(os.path.join(folder, "pod"), "r+b") as f:
        content = f.read().replace(b'"apps"', b'\n"apps"').replace(b'"image"', b'"image" oops')
        f.seek(0)
        f.write(content)
    (found,) = podium.json("fsck", check=6)["findings"]
    for part in (os.path.basename(folder), "from box", "appc 0.8", "line 2", "column "):
        assert part in found["message"]


def test_there_has_to_be_a_data_directory(podium: Podium) -> None:
    assert "no data directory" in podium("fsck", check=3).stderr
    assert not os.path.exists(podium.dir)
