"""erofs images of trees: equal to the tree, made once, rebuilt when damaged, collected with the tree."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys

import pytest

from podium.errors import HostLacks
from podium.images.importing import import_path
from podium.sandbox import derived
from podium.store.store import Store
from support import oci

MAKE = """
import sys
from podium.sandbox.derived import tree_image
print(tree_image(*sys.argv[1:]))
"""
KILLED = """
import os, signal
import podium.sandbox.derived as d
d.trace = lambda point: os.kill(os.getpid(), signal.SIGKILL) if point == os.environ["AT"] else None
"""


def imported(store: Store, work: str, name: str = "one") -> tuple[str, str]:
    """An image; its id and tree."""
    path = os.path.join(work, name)
    oci.write_layout(
        path, [oci.layer([(f"file-{i}", name.encode() * 5000) for i in range(4)])], {"Cmd": ["/x"]}, tag=f"{name}:1"
    )
    image = import_path(store, path)
    return image.id, store.ensure_tree(image)


def arguments(store: Store, image_id: str, tree: str) -> list[str]:
    return [store.data.root, image_id, store.data.rootfs(tree)]


def make(store: Store, image_id: str, tree: str) -> str:
    return derived.tree_image(*arguments(store, image_id, tree))


def entries(root: str) -> dict[str, tuple[object, ...]]:
    """Everything that a guest could see of a tree; hard links as the group of their names."""
    found: dict[str, tuple[object, ...]] = {}
    links: dict[tuple[int, int], list[str]] = {}
    paths = [root] + [os.path.join(d, n) for d, folders, files in os.walk(root) for n in folders + files]
    for path in paths:
        info, name = os.lstat(path), os.path.relpath(path, root)
        content: object = None
        if stat.S_ISREG(info.st_mode):
            with open(path, "rb") as f:
                content = f.read()
            links.setdefault((info.st_dev, info.st_ino), []).append(name)
        elif stat.S_ISLNK(info.st_mode):
            content = os.readlink(path)
        xattrs = {k: os.getxattr(path, k, follow_symlinks=False) for k in os.listxattr(path, follow_symlinks=False)}
        found[name] = (
            info.st_mode,
            info.st_uid,
            info.st_gid,
            info.st_mtime_ns,
            info.st_rdev,
            content,
            tuple(sorted(xattrs.items())),
        )
    for names in links.values():
        for name in names:
            found[name] += (tuple(sorted(names)),)
    return found


def test_image_equals_tree_entry_by_entry(store: Store, work: str) -> None:
    image_id, tree = imported(store, work)
    rootfs = store.data.rootfs(tree)
    with open(os.path.join(rootfs, "owned"), "w") as f:
        f.write("x")
    os.chown(f.name, 1234, 70000)
    os.chmod(f.name, 0o4711)
    os.setxattr(f.name, "user.note", b"kept")
    os.setxattr(f.name, "security.capability", bytes.fromhex("0100000200040000000000000000000000000000"))
    os.link(f.name, os.path.join(rootfs, "hard"))
    os.symlink("owned", os.path.join(rootfs, "soft"))
    os.mkfifo(os.path.join(rootfs, "fifo"))
    os.mkdir(os.path.join(rootfs, "sticky"))
    os.chmod(os.path.join(rootfs, "sticky"), 0o1777)
    os.mknod(os.path.join(rootfs, "null"), stat.S_IFCHR | 0o666, os.makedev(1, 3))
    for n, name in enumerate(("owned", "soft", "fifo", "sticky", "null", "file-1")):
        os.utime(os.path.join(rootfs, name), ns=(0, 10**18 + n * 1001), follow_symlinks=False)

    path = make(store, image_id, tree)
    seen = os.path.join(work, "seen")
    os.mkdir(seen)
    subprocess.run(["mount", "-t", "erofs", "-o", "ro,loop", path, seen], check=True)
    try:
        found = entries(seen)
    finally:
        subprocess.run(["umount", seen], check=True)
    assert found == entries(rootfs)
    assert found["hard"][-1] == ("hard", "owned") and dict(found["owned"][6])["user.note"] == b"kept"


def test_concurrent_makers_do_the_work_once(store: Store, work: str) -> None:
    image_id, tree = imported(store, work)
    command = [sys.executable, "-c", MAKE, *arguments(store, image_id, tree)]
    env = {
        **os.environ,
        "PODIUM_TEST_COUNT": os.path.join(work, "count"),
        "PATH": f"{counting(work)}:{os.environ['PATH']}",
    }
    makers = [subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    paths = {maker.communicate(timeout=60)[0].strip() for maker in makers}
    assert paths == {os.path.join(store.data.erofs, f"{tree}.img")}
    with open(env["PODIUM_TEST_COUNT"]) as f:
        assert f.read() == "made\n"
    assert sorted(os.listdir(store.data.erofs)) == [f"{tree}.img", f"{tree}.json"]


def counting(work: str) -> str:
    """A folder with an mkfs.erofs that counts how often it is called, then is the real one."""
    import shutil

    folder = os.path.join(work, "bin")
    os.mkdir(folder)
    path = os.path.join(folder, derived.PROGRAM)
    with open(path, "w") as f:
        f.write(f'#!/bin/sh\necho made >>"$PODIUM_TEST_COUNT"\nsleep 0.3\nexec {shutil.which(derived.PROGRAM)} "$@"\n')
    os.chmod(path, 0o755)
    return folder


@pytest.mark.parametrize("damage", ["flip", "truncate", "image-gone", "record-gone", "record-torn"])
def test_damaged_image_is_made_again(store: Store, work: str, damage: str) -> None:
    image_id, tree = imported(store, work)
    path = make(store, image_id, tree)
    record = path.removesuffix(".img") + ".json"
    good = derived.fault(store.data, tree)
    assert good is None
    os.chmod(path, 0o644)
    if damage == "flip":
        with open(path, "r+b") as f:
            f.seek(-100, os.SEEK_END)
            f.write(b"damage")
    elif damage == "truncate":
        os.truncate(path, 4096)
    elif damage == "record-torn":
        os.truncate(record, 20)
    else:
        os.unlink(path if damage == "image-gone" else record)
    assert derived.fault(store.data, tree) is not None
    assert make(store, image_id, tree) == path
    assert derived.fault(store.data, tree) is None
    subprocess.run(["fsck.erofs", path], check=True, capture_output=True)


def test_untouched_image_is_not_made_again_also_when_moved(store: Store, work: str) -> None:
    image_id, tree = imported(store, work)
    path = make(store, image_id, tree)
    before = os.stat(path)
    assert os.stat(make(store, image_id, tree)).st_ino == before.st_ino
    os.rename(path, path + ".x")  # changes the ctime alone
    os.rename(path + ".x", path)
    assert os.stat(make(store, image_id, tree)).st_ino == before.st_ino


def test_verify_finds_and_mends_a_damaged_image(store: Store, work: str) -> None:
    image_id, tree = imported(store, work)
    path = make(store, image_id, tree)
    os.chmod(path, 0o644)
    os.truncate(path, os.stat(path).st_size - 1)
    (found,) = store.verify([image_id], repair=False)
    assert any("altered" in problem for problem in found.problems)
    (found,) = store.verify([image_id])
    assert found.repaired and not found.problems
    assert derived.fault(store.data, tree) is None


def test_collected_with_the_tree_and_leftovers_too(store: Store, work: str) -> None:
    image_id, tree = imported(store, work)
    other, other_tree = imported(store, work, "two")
    make(store, image_id, tree)
    kept = make(store, other, other_tree)
    for name in (f"{tree[:-4]}abcd.img", f"{other_tree}.part", ".tmp-1-x"):
        with open(os.path.join(store.data.erofs, name), "w") as f:
            f.write("left")
    store.remove(image_id)
    assert not os.path.exists(os.path.join(store.data.erofs, f"{tree}.img"))
    store.gc()
    assert sorted(os.listdir(store.data.erofs)) == [f"{other_tree}.img", f"{other_tree}.json"]
    assert os.path.exists(kept)


@pytest.mark.parametrize("point", ["erofs:making", "erofs:made", "erofs:renamed"])
def test_killed_maker_leaves_what_the_next_use_takes_over(store: Store, work: str, point: str) -> None:
    image_id, tree = imported(store, work)
    code = KILLED + MAKE
    command = [sys.executable, "-c", code, *arguments(store, image_id, tree)]
    killed = subprocess.run(command, env={**os.environ, "AT": point})
    assert killed.returncode == -signal.SIGKILL
    assert derived.fault(store.data, tree) is not None
    make(store, image_id, tree)
    assert derived.fault(store.data, tree) is None
    assert sorted(os.listdir(store.data.erofs)) == [f"{tree}.img", f"{tree}.json"]


def test_without_mkfs_says_how_to_get_it(store: Store, work: str, monkeypatch: pytest.MonkeyPatch) -> None:
    image_id, tree = imported(store, work)
    monkeypatch.setenv("PATH", work)
    with pytest.raises(HostLacks, match=r"mkfs\.erofs") as caught:
        make(store, image_id, tree)
    assert "erofs-utils" in str(caught.value.hint)
