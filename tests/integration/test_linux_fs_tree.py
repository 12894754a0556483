from __future__ import annotations

import errno
import fcntl
import os
import socket
import stat
import subprocess
import threading
from pathlib import Path

import pytest

from podium.errors import InUse
from podium.linux import copying, mount, resolve, tree
from support.linux_fs import in_child, in_private_mounts, without_syscall

RENAMEAT2_EXCHANGE = 2


def _make_odd(base: Path) -> None:
    """One of everything that a folder may hold."""
    for name in ("plain", "new\nline", "\udcff\udcfe", "-rf", " ", "e\x80\u2028"):
        (base / name).mkdir(parents=True)
        (base / name / name).write_text("x")
    os.mkfifo(base / "fifo")
    with socket.socket(socket.AF_UNIX) as sock:
        os.chdir(base)
        sock.bind("socket")
        os.chdir("/")
    os.mknod(base / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    os.mknod(base / "whiteout", stat.S_IFCHR, 0)
    os.mknod(base / "block", stat.S_IFBLK | 0o600, os.makedev(7, 200))
    (base / "dangling").symlink_to("nowhere")
    (base / "out").symlink_to("/")
    (base / "self").symlink_to(".")
    (base / "closed/in").mkdir(parents=True)
    (base / "closed/in/f").touch(mode=0)
    (base / "closed/in").chmod(0)
    (base / "closed").chmod(0)


def test_removes_whatever_a_folder_may_hold(tmp_path: Path) -> None:
    _make_odd(tmp_path / "tree")
    fds = len(os.listdir("/proc/self/fd"))
    tree.remove_tree(str(tmp_path), "tree")
    assert os.listdir(tmp_path) == []
    assert len(os.listdir("/proc/self/fd")) == fds


def test_removes_closed_folders_without_privileges(test_dir: str) -> None:
    os.chown(test_dir, 65534, 65534)
    os.chmod(test_dir, 0o755)

    def body() -> None:
        os.chdir(test_dir)
        os.setresgid(65534, 65534, 65534)
        os.setresuid(65534, 65534, 65534)
        for mode in (0, 0o400, 0o100, 0o600, 0o500):
            os.makedirs("tree/a/b")
            Path("tree/a/b/f").touch(mode=0)
            Path("tree/f").touch(mode=0)
            for folder in ("tree/a/b", "tree/a", "tree"):
                os.chmod(folder, mode)
            tree.remove_tree(".", "tree")
            assert os.listdir(".") == []

    in_child(body)


def test_links_are_removed_not_followed(tmp_path: Path) -> None:
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept/f").touch()
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree/link").symlink_to(tmp_path / "kept")
    (tmp_path / "top").symlink_to("kept")
    tree.remove_tree(str(tmp_path), "tree")
    tree.remove_tree(str(tmp_path), "top")
    assert os.listdir(tmp_path) == ["kept"]
    assert os.listdir(tmp_path / "kept") == ["f"]


def test_a_file_and_nothing_at_all(tmp_path: Path) -> None:
    (tmp_path / "f").touch()
    fd = os.open(tmp_path, os.O_RDONLY)
    tree.remove_tree(fd, "f")
    tree.remove_tree(fd, "f")
    os.close(fd)
    assert os.listdir(tmp_path) == []


def test_fifty_thousand_folders_deep_with_few_open_files(test_dir: str) -> None:
    fd = os.open(test_dir, os.O_RDONLY)
    for _ in range(50_000):
        os.mkdir("d", dir_fd=fd)
        os.close(os.open("f", os.O_CREAT | os.O_WRONLY, dir_fd=fd))
        below = os.open("d", os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = below
    os.close(fd)

    def body() -> None:
        import resource

        resource.setrlimit(resource.RLIMIT_NOFILE, (128, 128))
        tree.remove_tree(test_dir, "d")

    in_child(body)
    assert os.listdir(test_dir) == ["f"]


def test_immutable_and_append_only(test_dir: str) -> None:
    base = Path(test_dir)
    (base / "tree/fixed/in").mkdir(parents=True)
    (base / "tree/empty").mkdir()
    (base / "tree/append").mkdir()
    for name in ("tree/f", "tree/append/f", "tree/fixed/in/f", "tree/shared"):
        (base / name).touch()
    os.link(base / "tree/shared", base / "other")
    (base / "tree/fixed/link").symlink_to("x")
    for flag, *names in (("+i", "f", "shared", "empty", "fixed/in", "fixed"), ("+a", "append/f", "append")):
        for name in names:
            subprocess.run(["chattr", flag, "--", str(base / "tree" / name)], check=True)
    try:
        tree.remove_tree(test_dir, "tree")
        assert os.listdir(test_dir) == ["other"]
        with pytest.raises(PermissionError), open(base / "other", "ab"):
            pass
    finally:
        subprocess.run(["chattr", "-R", "-ia", "--", test_dir], check=True)


@pytest.mark.parametrize("kind", ["tmpfs", "bind", "file", "top"])
def test_a_mount_is_never_entered_nor_its_folder_touched(tmp_path: Path, kind: str) -> None:
    """Fault 9 (k8s#7317): what a volume holds is not the pod's to remove."""
    sentinel = tmp_path / "host"
    sentinel.mkdir()
    (sentinel / "sentinel").write_text("intact")
    folder = tmp_path / "pod/rootfs/data"
    folder.mkdir(parents=True)
    (folder / "volume").mkdir()
    (folder / "file").touch()
    (folder / "a").touch()
    (folder / "z").touch()

    def body() -> None:
        place = {"file": folder / "file", "top": tmp_path / "pod"}.get(kind, folder / "volume")
        if kind == "tmpfs":
            mount.mount("tmpfs", str(place), "tmpfs")
            Path(place, "sentinel").touch()
        else:
            mount.bind(str(sentinel / "sentinel" if kind == "file" else sentinel), str(place), read_only=kind == "bind")
        before = os.listdir(folder) if kind != "top" else []
        with pytest.raises(InUse) as caught:
            tree.remove_tree(str(tmp_path), "pod")
        assert caught.value.subject == str(place)
        assert str(place) in caught.value.message
        if kind != "top":
            assert os.listdir(folder) == before
        assert os.path.isfile(place if kind == "file" else place / "sentinel")
        mount.umount(str(place))
        tree.remove_tree(str(tmp_path), "pod")

    in_private_mounts(body)
    assert (sentinel / "sentinel").read_text() == "intact"
    assert sorted(os.listdir(tmp_path)) == ["host"]


def test_a_mount_is_refused_without_mount_ids_too(tmp_path: Path) -> None:
    """Linux before 5.8 doesn't say which mount a file is on; entering it is refused all the same."""
    (tmp_path / "host").mkdir()
    (tmp_path / "host/sentinel").touch()
    (tmp_path / "pod/volume").mkdir(parents=True)

    def body() -> None:
        from podium.linux import syscalls

        mount.bind(str(tmp_path / "host"), str(tmp_path / "pod/volume"))
        syscalls.STATX_MNT_ID = 0
        assert syscalls.mount_id(syscalls.AT_FDCWD, "/", 0) == 0
        with pytest.raises(InUse):
            tree.remove_tree(str(tmp_path), "pod")
        assert os.listdir(tmp_path / "pod") == ["volume"]

    in_private_mounts(body)
    assert os.listdir(tmp_path / "host") == ["sentinel"]


def test_swaps_with_links_meanwhile_lead_nowhere(test_dir: str) -> None:
    """Fault 39 (CVE-2021-3997): somebody replaces folders with links to elsewhere all the while."""
    from podium.linux import syscalls

    base = Path(test_dir)
    (base / "kept/sub").mkdir(parents=True)
    for number in range(20):
        (base / f"kept/f{number}").touch()
        (base / f"kept/sub/f{number}").touch()
    stop = threading.Event()

    def attack() -> None:
        while not stop.is_set():
            try:
                syscalls.renameat2(-100, f"{base}/tree/a", -100, f"{base}/tree/b", RENAMEAT2_EXCHANGE)
            except OSError:
                pass

    attacker = threading.Thread(target=attack)
    attacker.start()
    try:
        for _ in range(60):
            (base / "tree/a/sub").mkdir(parents=True)
            for number in range(20):
                (base / f"tree/a/sub/f{number}").touch()
            (base / "tree/b").symlink_to(base / "kept")
            tree.remove_tree(test_dir, "tree")
            assert os.listdir(base) == ["kept"]
    finally:
        stop.set()
        attacker.join()
    assert len(os.listdir(base / "kept")) == 21
    assert len(os.listdir(base / "kept/sub")) == 20


def test_two_removals_at_once_both_end(test_dir: str) -> None:
    for number in range(300):
        os.makedirs(os.path.join(test_dir, "tree", str(number % 7), str(number)))
    failures: list[BaseException] = []

    def remove() -> None:
        try:
            tree.remove_tree(test_dir, "tree")
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=remove) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert os.listdir(test_dir) == []


def _describe(base: Path) -> dict[str, tuple[object, ...]]:
    found: dict[str, tuple[object, ...]] = {}
    links: dict[int, str] = {}
    for folder, folders, files in os.walk(base):
        for name in sorted([*folders, *files, "."]):
            path = os.path.join(folder, name)
            status = os.lstat(path)
            content: object = None
            if stat.S_ISREG(status.st_mode):
                content = Path(path).read_bytes()
            elif stat.S_ISLNK(status.st_mode):
                content = os.readlink(path)
            first = links.setdefault(status.st_ino, os.path.relpath(path, base)) if status.st_nlink > 1 else ""
            attributes = {key: os.getxattr(path, key, follow_symlinks=False) for key in _xattrs(path)}
            found[os.path.relpath(path, base)] = (
                status.st_mode,
                status.st_uid,
                status.st_gid,
                status.st_rdev,
                status.st_mtime_ns,
                None if stat.S_ISDIR(status.st_mode) else (status.st_nlink, first),
                content,
                attributes,
            )
    return found


def _xattrs(path: str) -> list[str]:
    return os.listxattr(path, follow_symlinks=False)


@pytest.mark.parametrize("no_copy_range", [False, True])
def test_copy_is_faithful(test_dir: str, no_copy_range: bool) -> None:
    base = Path(test_dir)
    source = base / "source"
    _make_odd(source)
    (source / "setuid").write_bytes(b"x" * 100_000)
    os.chown(source / "setuid", 1234, 2345)
    (source / "setuid").chmod(0o6755)
    # A version 2 capability set: cap_net_raw, effective.
    os.setxattr(source / "setuid", "security.capability", bytes.fromhex("0100000200200000000000000000000000000000"))
    os.setxattr(source / "plain", "user.key", b"value\0")
    os.setxattr(source / "dangling", "trusted.key", b"x", follow_symlinks=False)
    os.link(source / "setuid", source / "plain/second name")
    os.link(source / "dangling", source / "plain/second link", follow_symlinks=False)
    os.chown(source / "out", 77, 88, follow_symlinks=False)
    (source / "plain").chmod(0o1777)
    with open(source / "sparse", "wb") as file:
        file.seek(50 << 20)
        file.write(b"end")
        file.truncate(100 << 20)
    for name in ("plain", "setuid", "fifo", "."):
        os.utime(source / name, ns=(1, 1_000_000_001))

    def body() -> None:
        if no_copy_range:
            without_syscall(326 if os.uname().machine == "x86_64" else 285)
        tree.copy_tree(str(source), str(base / "copy"))

    in_child(body)
    assert _describe(base / "copy") == _describe(source)
    assert os.stat(base / "copy/sparse").st_blocks <= os.stat(source / "sparse").st_blocks + 16
    with pytest.raises(FileExistsError):
        tree.copy_tree(str(source), str(base / "copy"))
    os.chmod(base / "copy/closed", 0o700)


def test_copy_does_not_cross_mounts(tmp_path: Path) -> None:
    (tmp_path / "source/mnt").mkdir(parents=True)

    def body() -> None:
        mount.mount("tmpfs", str(tmp_path / "source/mnt"), "tmpfs")
        with pytest.raises(OSError, match="openat2") as caught:
            tree.copy_tree(str(tmp_path / "source"), str(tmp_path / "copy"))
        assert caught.value.errno == errno.EXDEV

    in_private_mounts(body)


def test_copy_shares_data_where_the_file_system_can(test_dir: str) -> None:
    """Btrfs or xfs on a loop device, whichever can be made here."""
    image = os.path.join(test_dir, "image")
    with open("/proc/filesystems") as file:
        known = file.read().split()
    for kind in ("btrfs", "xfs"):
        program = next((p for p in (f"/sbin/mkfs.{kind}", f"/usr/sbin/mkfs.{kind}") if os.path.exists(p)), None)
        if program and kind in known:
            break
    else:
        pytest.skip("neither btrfs nor xfs can be made here")
    with open(image, "wb") as file:
        file.truncate(400 << 20)
    subprocess.run([program, "-q", image], check=True, capture_output=True)
    target = os.path.join(test_dir, "mnt")
    os.mkdir(target)

    def body() -> None:
        subprocess.run(["mount", "-o", "loop", image, target], check=True)
        os.mkdir(f"{target}/source")
        Path(target, "source/f").write_bytes(os.urandom(50 << 20))
        os.sync()
        before = os.statvfs(target).f_bfree
        tree.copy_tree(f"{target}/source", f"{target}/copy")
        os.sync()
        assert before - os.statvfs(target).f_bfree < (10 << 20) // os.statvfs(target).f_frsize
        assert Path(target, "copy/f").read_bytes() == Path(target, "source/f").read_bytes()
        with open(f"{target}/copy/f", "rb") as one, open(f"{target}/g", "wb") as other:
            fcntl.ioctl(other, copying._FICLONE, one.fileno())

    in_private_mounts(body)


def test_a_folder_moved_away_during_a_deep_walk_is_noticed(test_dir: str) -> None:
    from podium.linux.trail import Trail, open_folder

    deep = os.path.join(test_dir, "/".join(["d"] * 60))
    os.makedirs(deep)
    os.mkdir(os.path.join(test_dir, "elsewhere"))
    trail = Trail()
    fd = resolve.open_dir(test_dir)
    for _ in range(60):
        trail.down("d", open_folder(trail.fd if trail else fd, "d"))
    os.rename(os.path.join(test_dir, "/".join(["d"] * 10)), os.path.join(test_dir, "elsewhere", "d"))
    with pytest.raises(InUse, match="moved"):
        while trail:
            trail.up()
    trail.close()
    os.close(fd)
