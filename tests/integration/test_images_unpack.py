"""Unpacked trees equal GNU tar's and umoci's, entry by entry: kind, mode, owner, time, content, links, attributes."""

from __future__ import annotations

import os
import stat
import struct
import subprocess
from typing import Any

import pytest

from podium.images.importing import import_path
from podium.store.store import Store
from support import images


def tree(root: str, *, with_folder_times: bool = True) -> dict[str, tuple[Any, ...]]:
    """Everything that an archive says of each path below a folder."""
    found: dict[str, tuple[Any, ...]] = {}
    first: dict[int, str] = {}
    top = os.fsencode(root)
    for folder, names, files in os.walk(top):
        for name in [b".", *names, *files]:
            if name == b"." and folder != top:
                continue
            full = os.path.join(folder, name)
            st = os.lstat(full)
            what: Any = None
            if stat.S_ISLNK(st.st_mode):
                what = os.readlink(full)
            elif stat.S_ISREG(st.st_mode):
                with open(full, "rb") as f:
                    what = f.read()
            elif not stat.S_ISDIR(st.st_mode):
                what = st.st_rdev
            path = os.path.relpath(full, top).decode("utf-8", "surrogateescape")
            same = None if stat.S_ISDIR(st.st_mode) else first.setdefault(st.st_ino, path)
            times = None if stat.S_ISDIR(st.st_mode) and not with_folder_times else st.st_mtime_ns
            xattrs = {n: os.getxattr(full, n, follow_symlinks=False) for n in os.listxattr(full, follow_symlinks=False)}
            found[path] = (oct(st.st_mode), st.st_uid, st.st_gid, times, what, same, xattrs)
    return found


def differences(one: dict[str, tuple[Any, ...]], other: dict[str, tuple[Any, ...]]) -> list[str]:
    return [
        f"{path}: {str(one.get(path))[:200]} / {str(other.get(path))[:200]}"
        for path in sorted(one.keys() | other.keys())
        if one.get(path) != other.get(path)
    ]


def odd_rootfs(root: str) -> None:
    """All that a file system can hold, and names of every kind."""
    images.make_busybox_rootfs(root)
    at = os.fsencode(root)
    for name in (b"plain", b"with space", b"new\nline", b"\xff\xfe", "häß".encode(), b"n" * 255, b"-dash", b"*"):
        with open(os.path.join(at, b"tmp", name), "wb") as f:
            f.write(name)
    long = os.path.join(at, *[b"l" * 100] * 12)
    os.makedirs(long)
    with open(os.path.join(long, b"f" * 200), "wb") as f:
        f.write(b"deep")
    os.symlink(b"t" * 1000, os.path.join(at, b"long-link"))
    os.symlink(b"/etc/\xff", os.path.join(at, b"odd-link"))
    os.mknod(os.path.join(root, "dev/null"), stat.S_IFCHR | 0o666, os.makedev(1, 3))
    os.mknod(os.path.join(root, "dev/loop0"), stat.S_IFBLK | 0o600, os.makedev(7, 0))
    os.mkfifo(os.path.join(root, "pipe"), 0o640)
    os.link(os.path.join(root, "etc/passwd"), os.path.join(root, "etc/hard"))
    os.link(os.path.join(root, "odd-link"), os.path.join(root, "hard-link-of-link"))
    for name, mode, owner in (
        ("suid", 0o4755, 0),
        ("sgid", 0o2755, 5),
        ("none", 0o000, 7),
        ("big-id", 0o644, 3_000_000_000),
    ):
        with open(os.path.join(root, name), "w", encoding="ascii") as f:
            f.write(name)
        os.chown(os.path.join(root, name), owner, owner)
        os.chmod(os.path.join(root, name), mode)
    os.setxattr(
        os.path.join(root, "suid"), "security.capability", bytes.fromhex("0100000200040000000000000000000000000000")
    )
    os.setxattr(os.path.join(root, "sgid"), "user.bytes", b"\0\n=\xff")
    os.setxattr(os.path.join(root, "home"), "trusted.folder", b"x")
    with open(os.path.join(root, "sparse"), "wb") as f:
        for at_byte in range(0, 40 << 20, 4 << 20):
            f.seek(at_byte)
            f.write(b"data")
        f.truncate(64 << 20)
    os.utime(os.path.join(root, "none"), ns=(1, 1_600_000_000_123_456_789))
    os.utime(os.path.join(root, "suid"), ns=(1, -1_000_000_000))
    os.utime(os.path.join(root, "home"), ns=(1, 999_999_999_000_000_000))


@pytest.mark.parametrize(
    "form",
    ["posix", "gnu", "gnu --sparse", *(f"posix --sparse --sparse-version={v}" for v in ("0.0", "0.1", "1.0"))],
)
def test_unpacked_rootfs_equals_tars(form: str, store: Store, test_dir: str) -> None:
    source, other, archive = (os.path.join(test_dir, n) for n in ("source", "other", "rootfs.tar"))
    odd_rootfs(source)
    pax = ["--xattrs", "--xattrs-include=*"] if form.startswith("posix") else []
    words = [f"--format={form.split()[0]}", *form.split()[1:], *pax]
    subprocess.run(["tar", "--create", *words, "--file", archive, "--directory", source, "."], check=True)
    os.mkdir(other)
    extract = ["tar", "--extract", "--numeric-owner", "--preserve-permissions", *pax, "--file", archive]
    subprocess.run([*extract, "--directory", other], check=True)
    image = import_path(store, archive, name="odd", format="rootfs")
    root = store.data.rootfs(image.tree)
    assert not differences(tree(root), tree(other))
    if "--sparse" in form:
        assert os.stat(os.path.join(root, "sparse")).st_blocks <= os.stat(os.path.join(source, "sparse")).st_blocks
    if form.startswith("posix"):
        assert not differences(tree(root), tree(source))


def test_rootfs_folder_is_kept_exactly(store: Store, test_dir: str) -> None:
    source = os.path.join(test_dir, "source")
    odd_rootfs(source)
    image = import_path(store, source, name="odd")
    root = store.data.rootfs(image.tree)
    assert not differences(tree(root), tree(source))
    assert os.stat(os.path.join(root, "sparse")).st_blocks * 512 < 4 << 20


def umoci(archive: str, work: str) -> str:
    """The rootfs that umoci makes of an OCI archive."""
    layout = os.path.join(work, "umoci-layout")
    os.mkdir(layout)
    subprocess.run(["tar", "--extract", "--file", archive, "--directory", layout], check=True)
    bundle = os.path.join(work, "umoci-bundle")
    tags = subprocess.run(
        ["umoci", "ls", "--layout", layout], check=True, capture_output=True, text=True
    ).stdout.split()
    subprocess.run(["umoci", "unpack", "--image", f"{layout}:{tags[0]}", bundle], check=True, capture_output=True)
    return os.path.join(bundle, "rootfs")


def test_layers_with_whiteouts_equal_umocis(store: Store, test_dir: str) -> None:
    source = images.make_busybox_rootfs(os.path.join(test_dir, "rootfs"))
    archive = images.make_busybox_oci(source, test_dir)
    image = import_path(store, archive, name="b")
    mine = tree(store.data.rootfs(image.tree))
    theirs = tree(umoci(archive, test_dir))
    assert mine.pop(".")[:1] == theirs.pop(".")[:1]  # no layer mentions the root: its time is anybody's
    assert not differences(mine, theirs)


def test_debian_equals_umocis(store: Store, test_dir: str) -> None:
    archive = images.debian_oci_archive()
    image = import_path(store, archive, name="debian")
    assert not differences(tree(store.data.rootfs(image.tree)), tree(umoci(archive, test_dir)))


def test_layers_repacked_by_umoci_equal_its_own_unpacking(store: Store, test_dir: str) -> None:
    layout, bundle = os.path.join(test_dir, "l"), os.path.join(test_dir, "b")
    image = f"{layout}:t"

    def run(*argv: str) -> None:
        subprocess.run(["umoci", *argv], check=True, capture_output=True)

    run("init", "--layout", layout)
    run("new", "--image", image)
    run("unpack", "--image", image, bundle)
    root = os.path.join(bundle, "rootfs")
    images.make_busybox_rootfs(root)
    os.makedirs(os.path.join(root, "opt/a/b"))
    os.symlink("opt/a", os.path.join(root, "to-a"))
    run("repack", "--image", image, "--refresh-bundle", bundle)
    subprocess.run(["rm", "-r", os.path.join(root, "opt/a"), os.path.join(root, "etc/group")], check=True)
    os.makedirs(os.path.join(root, "opt/a/c"))
    os.unlink(os.path.join(root, "bin/ls"))
    os.mkdir(os.path.join(root, "bin/ls"))
    os.setxattr(os.path.join(root, "etc"), "user.a", b"1")
    run("repack", "--image", image, "--refresh-bundle", bundle)
    os.unlink(os.path.join(root, "to-a"))
    os.mkdir(os.path.join(root, "to-a"))
    os.chmod(os.path.join(root, "etc"), 0o700)
    os.removexattr(os.path.join(root, "etc"), "user.a")
    run("repack", "--image", image, "--refresh-bundle", bundle)
    imported = import_path(store, layout, name="x")
    second = os.path.join(test_dir, "second")
    run("unpack", "--image", image, second)
    theirs = tree(os.path.join(second, "rootfs"))
    assert not differences(tree(store.data.rootfs(imported.tree)), theirs)
    assert os.path.isdir(os.path.join(store.data.rootfs(imported.tree), "opt/a/c"))


def test_access_control_lists_are_not_inherited(store: Store, test_dir: str) -> None:
    """A folder's default list is its own; what lies in it has the list that the archive gives it, mostly none."""
    root = os.path.join(test_dir, "root")
    images.make_busybox_rootfs(root)
    journal = os.path.join(root, "var/log/journal")
    os.makedirs(os.path.join(journal, "inner"))
    with open(os.path.join(journal, "file"), "wb") as f:
        f.write(b"x")
    subprocess.run(["mkfifo", os.path.join(journal, "pipe")], check=True)
    # version 2; owner rwx, user 1000 rw-, group r-x, mask rwx, others r-x (linux/posix_acl_xattr.h)
    listed = [(1, 7, 0xFFFFFFFF), (2, 6, 1000), (4, 5, 0xFFFFFFFF), (16, 7, 0xFFFFFFFF), (32, 5, 0xFFFFFFFF)]
    default = struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in listed)
    os.setxattr(journal, "system.posix_acl_default", default)
    imported = import_path(store, root, name="x")
    ours = tree(store.data.rootfs(imported.tree))
    assert not differences(ours, tree(root))
    assert ours["var/log/journal"][-1] == {"system.posix_acl_default": default}
    assert [v.problems for v in store.verify()] == [[]]
