"""A data directory with each kind of damage that fsck knows."""

from __future__ import annotations

import glob
import os
import shutil
import sqlite3
from collections.abc import Callable

from podium import records
from podium.paths import DataDir

UUID = "11111111-2222-4333-8444-555555555555"


def one(*parts: str) -> str:
    (path,) = glob.glob(os.path.join(*parts))
    return path


def flip(path: str, at: float = 0.5) -> None:
    mode = os.stat(path).st_mode
    os.chmod(path, 0o644)
    with open(path, "r+b") as f:
        f.seek(int(os.path.getsize(path) * at))
        byte = f.read(1)
        f.seek(-1, os.SEEK_CUR)
        f.write(bytes([byte[0] ^ 0x10]))
    os.chmod(path, mode)


def write(path: str, content: bytes = b"") -> None:
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as f:
        f.write(content)


def largest_blob(data: DataDir) -> str:
    return max(glob.glob(os.path.join(data.blobs, "*")), key=os.path.getsize)


def pod(data: DataDir, name: str) -> str:
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
    os.rename(one(data.trees, "*", "tree.json"), os.path.join(data.cache, "kept"))


def _second_tree(data: DataDir) -> None:
    os.makedirs(os.path.join(data.trees, "f" * 64 + "-1", "rootfs"))


def _file_of_a_pod(data: DataDir) -> None:
    write(data.pod("run", UUID.replace("1", "9")), b"not a folder")


# damage → (what does it, the kinds that are found, whether it is damage, whether a repair mends all of it)
CASES: dict[str, tuple[Callable[[DataDir], object], set[str], bool, bool]] = {
    "nothing": (lambda d: None, set(), False, True),
    "format lost": (lambda d: os.unlink(d.format), {"format-damaged"}, True, True),
    "format empty": (lambda d: write(d.format), {"format-damaged"}, True, True),
    "index lost": (lambda d: os.unlink(d.index), {"index"}, False, True),
    "index empty": (lambda d: write(d.index), {"index"}, True, True),
    "index truncated": (lambda d: os.truncate(d.index, 5000), {"index"}, True, True),
    "index header flipped": (lambda d: flip(d.index, 0.0), {"index"}, True, True),
    "index says something else": (_lie, {"index"}, True, True),
    "blob flipped": (lambda d: flip(largest_blob(d)), {"blob-altered"}, True, False),
    "blob missing": (lambda d: os.unlink(largest_blob(d)), {"blob-missing"}, True, False),
    "blob nobody needs": (lambda d: write(d.blob("a" * 64), b"x"), {"blob-orphan"}, False, True),
    "image record flipped": (lambda d: flip(one(d.images, "*.json")), {"image-damaged", "pod-image"}, True, False),
    "use of an image that is gone": (lambda d: write(d.used("a" * 64)), {"image-used"}, False, True),
    "tree altered": (lambda d: flip(one(d.trees, "*", "rootfs/etc/passwd")), {"tree-altered"}, True, True),
    "tree without record": (_no_manifest_yet, {"tree-missing"}, True, True),
    "tree missing": (lambda d: shutil.rmtree(one(d.trees, "*")), {"tree-missing"}, True, True),
    "half a tree": (_second_tree, {"tree-orphan"}, False, True),
    "pin altered": (lambda d: flip(one(d.pins, "*/lib/podium/trace.py")), {"pin-damaged"}, True, True),
    "pin missing": (lambda d: shutil.rmtree(one(d.pins, "*")), {"pin-missing"}, True, True),
    "half a pin": (lambda d: os.mkdir(d.pin("sha256-" + "a" * 64)), {"pin-half-made"}, False, True),
    "envelope flipped": (lambda d: flip(pod(d, "ready") + "/envelope.json"), {"pod-envelope"}, True, False),
    "envelope missing": (lambda d: os.unlink(pod(d, "ready") + "/envelope.json"), {"pod-envelope"}, True, False),
    "ledger flipped": (lambda d: flip(pod(d, "ended") + "/ledger"), {"pod-ledger"}, True, False),
    "manifest cut": (lambda d: os.truncate(pod(d, "ready") + "/pod", 300), {"pod-manifest"}, True, False),
    "run record flipped": (lambda d: flip(pod(d, "ended") + "/runtime.json"), {"pod-record"}, True, False),
    "a file in a pod's place": (_file_of_a_pod, {"pod-odd"}, False, True),
    "embryo": (lambda d: os.mkdir(d.pod("embryo", UUID)), {"pod-abandoned"}, False, True),
    "workspace": (lambda d: write(os.path.join(d.tmp, "image-1-a", "blobs", "b")), {"temporary"}, False, True),
    "half a record": (lambda d: write(os.path.join(d.images, ".tmp-999999999-a")), {"temporary"}, False, True),
    "erofs of no tree": (lambda d: write(os.path.join(d.erofs, "a-1.img")), {"erofs-orphan"}, False, True),
    "kernel without record": (
        lambda d: write(os.path.join(d.kernels, "sha256-" + "a" * 64, "vmlinux"), b"x"),
        {"kernel-damaged"},
        True,
        True,
    ),
    "kernel of a pod missing": (
        lambda d: write(os.path.join(pod(d, "ready"), "stage1", "kernel"), b"sha256:" + b"a" * 64 + b"\n"),
        {"kernel-missing"},
        True,
        False,
    ),
    "event flipped": (lambda d: flip(os.path.join(d.events, "log")), {"events-damaged"}, False, False),
    "erofs without record": (
        lambda d: write(os.path.join(d.erofs, os.listdir(d.trees)[0] + ".img")),
        {"erofs-damaged"},
        True,
        True,
    ),
}


def content(root: str) -> dict[str, bytes]:
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
