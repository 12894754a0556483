from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import pytest

from podium.errors import HostLacks
from podium.linux import mount, resolve
from support.linux_fs import MOUNT_SETATTR, OPENAT2, in_child, in_private_mounts, in_tmpfs, without_syscall


def _host() -> list[tuple[str, ...]]:
    return [tuple(map(str, entry)) for entry in mount.read_mountinfo()]


@pytest.mark.parametrize(
    "name", ["plain", "a b", "new\nline", "back\\slash", "co:lon,comma", "#", "\udcff\udcfe", "é\x85"]
)
def test_mountinfo_has_the_path_that_was_mounted(tmp_path: Path, name: str) -> None:
    target = os.path.join(tmp_path, name)
    os.mkdir(target)

    def body() -> None:
        mount.mount("tmpfs", target, "tmpfs", mount.MS_NOSUID, "size=1m")
        (entry,) = mount.mounts_below(str(tmp_path), mount.read_mountinfo())
        assert entry.target == target
        assert entry.fstype == "tmpfs"
        assert "nosuid" in entry.options.split(",")
        assert entry.device == "{}:{}".format(*divmod(os.stat(target).st_dev, 256))
        mount.umount(target)
        assert not mount.mounts_below(str(tmp_path), mount.read_mountinfo())

    in_private_mounts(body)


def test_own_mounts_do_not_reach_the_host(tmp_path: Path) -> None:
    before = _host()

    def body() -> None:
        mount.unshare_mounts()
        mount.mount("tmpfs", str(tmp_path), "tmpfs")
        assert len(mount.read_mountinfo()) == len(before) + 1
        assert all("shared" not in entry.propagation for entry in mount.read_mountinfo()[:1])
        assert len(mount.read_mountinfo(os.getppid())) == len(before)

    in_child(body)
    assert _host() == before


def test_options_that_the_kernel_would_cut_are_refused(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="4095") as caught:
        mount.mount("tmpfs", str(tmp_path), "tmpfs", 0, "x" * 4096)
    assert caught.value.errno == errno.E2BIG


@pytest.mark.parametrize("old_kernel", [False, True])
@pytest.mark.parametrize("recursive", [False, True])
def test_read_only_bind_is_read_only_and_leaves_the_source_alone(
    tmp_path: Path, recursive: bool, old_kernel: bool
) -> None:
    def body(base: str) -> None:
        source, target = os.path.join(base, "source"), os.path.join(base, "the target")
        os.makedirs(os.path.join(source, "sub"))
        os.mkdir(target)
        mount.mount("tmpfs", os.path.join(source, "sub"), "tmpfs", mount.MS_NOSUID | mount.MS_NODEV)
        os.mkdir(os.path.join(source, "sub", "seen"))
        if old_kernel:
            without_syscall(MOUNT_SETATTR)
        mount.bind(source, target, recursive=recursive, read_only=True)
        for folder in ("", "sub")[: 1 + recursive]:
            with pytest.raises(OSError, match="Read-only") as caught:
                os.mkdir(os.path.join(target, folder, "new"))
            assert caught.value.errno == errno.EROFS
            os.mkdir(os.path.join(source, folder, "new"))
        assert os.path.exists(os.path.join(target, "sub", "seen")) == recursive
        if recursive:
            entry = mount.mounts_below(os.path.join(target, "sub"), mount.read_mountinfo())[-1]
            assert {"ro", "nosuid", "nodev"} <= set(entry.options.split(","))

    in_tmpfs(str(tmp_path), body)


def test_bind_of_a_file_by_descriptors(tmp_path: Path) -> None:
    def body(base: str) -> None:
        Path(base, "source").write_text("source")
        Path(base, "target").touch()
        source, target = (os.open(os.path.join(base, name), os.O_PATH) for name in ("source", "target"))
        mount.bind(source, target)
        assert Path(base, "target").read_text() == "source"

    in_tmpfs(str(tmp_path), body)


@pytest.mark.parametrize("link", ["/dev", "/proc", "/etc"])
def test_mount_point_behind_an_images_link_stays_in_its_root(tmp_path: Path, link: str) -> None:
    """Fault 41 (CVE-2021-30465): what an image says is /dev may not make the host's /dev the target."""

    def body(base: str) -> None:
        root = os.path.join(base, "root")
        os.mkdir(root)
        # The link leads out, for whoever follows it with the host's root or with dots.
        os.symlink(link if link != "/etc" else "../../../../../../etc", root + "/evil")
        before = os.stat(link)
        root_fd = resolve.open_dir(root)
        target = resolve.ensure_mountpoint(root_fd, "/evil/sub", True)
        mount.mount("tmpfs", target, "tmpfs", 0, "mode=0711")
        mount.bind("/usr", resolve.ensure_mountpoint(root_fd, "evil/other", True), read_only=True)
        after = os.stat(link)
        assert (before.st_dev, before.st_ino) == (after.st_dev, after.st_ino)
        assert not os.path.exists(f"{link}/sub")
        assert stat.S_IMODE(os.stat(f"{root}{link}/sub").st_mode) == 0o711
        below = [entry.target for entry in mount.mounts_below(root, mount.read_mountinfo())]
        assert below == [f"{root}{link}/sub", f"{root}{link}/other"]

    in_tmpfs(str(tmp_path), body)


def test_mount_point_swapped_for_a_link_after_the_look(tmp_path: Path) -> None:
    """Fault 41: the descriptor goes on meaning the folder that was looked at."""

    def body(base: str) -> None:
        root = os.path.join(base, "root")
        outside = os.path.join(base, "outside")
        os.makedirs(root + "/data")
        os.mkdir(outside)
        target = resolve.ensure_mountpoint(resolve.open_dir(root), "data", True)
        os.rename(root + "/data", root + "/was")
        os.symlink(outside, root + "/data")
        mount.bind("/usr", target)
        mount.mount("tmpfs", resolve.ensure_mountpoint(resolve.open_dir(root), "was", True), "tmpfs")
        assert os.listdir(outside) == []
        targets = {entry.target for entry in mount.mounts_below(base, mount.read_mountinfo())} - {base}
        assert targets == {root + "/was"}

    in_tmpfs(str(tmp_path), body)


def test_in_root_paths(tmp_path: Path) -> None:
    (tmp_path / "root/a").mkdir(parents=True)
    (tmp_path / "outside").write_text("outside")
    (tmp_path / "root/outside").write_text("inside")
    for name, target in {"abs": "/outside", "dots": "../../../outside", "chain": "a/../abs"}.items():
        (tmp_path / "root" / name).symlink_to(target)
    root = resolve.open_dir(str(tmp_path / "root"))
    for path in ("abs", "/abs", "dots", "chain", "../outside", "/../../outside"):
        with os.fdopen(resolve.open_in_root(root, path, os.O_RDONLY)) as file:
            assert file.read() == "inside"
    for path in ("abs", "dots", "../outside", "/outside"):
        with pytest.raises(OSError, match="openat2") as caught:
            resolve.open_beneath(root, path, os.O_RDONLY)
        assert caught.value.errno == errno.EXDEV
    (tmp_path / "root/magic").symlink_to("a")
    os.close(resolve.open_beneath(root, "magic", os.O_PATH))
    os.close(root)


def test_missing_folders_are_made_inside_the_root_also_behind_links(tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "var").mkdir(parents=True)
    (root / "var/run").symlink_to("/run")
    (root / "out").symlink_to("../../../gone/../made")
    (root / "loop").symlink_to("loop2")
    (root / "loop2").symlink_to("loop")
    (root / "file").touch()
    fd = resolve.open_dir(str(root))
    for path, made in {"var/run/x/y": "run/x/y", "/out/z": "made/z", "plain": "plain", "": "."}.items():
        folder = resolve.make_dirs_in_root(fd, path)
        assert os.path.samestat(os.fstat(folder), os.stat(root / made))
        os.close(folder)
    with pytest.raises(OSError, match="symbolic links"):
        resolve.make_dirs_in_root(fd, "loop/x")
    with pytest.raises(NotADirectoryError):
        resolve.make_dirs_in_root(fd, "file/x")
    os.close(fd)
    assert sorted(os.listdir(tmp_path)) == ["root"]


def test_mount_points_are_made_of_the_right_kind(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/resolv.conf").symlink_to("../run/systemd/resolve/stub-resolv.conf")
    fd = resolve.open_dir(str(tmp_path))
    os.close(resolve.ensure_mountpoint(fd, "/etc/resolv.conf", False))
    assert (tmp_path / "run/systemd/resolve/stub-resolv.conf").read_bytes() == b""
    with pytest.raises(IsADirectoryError):
        resolve.ensure_mountpoint(fd, "etc", False)
    with pytest.raises(NotADirectoryError):
        resolve.ensure_mountpoint(fd, "etc/resolv.conf", True)
    os.close(fd)


def test_a_kernel_without_openat2_is_told_of(tmp_path: Path) -> None:
    def body() -> None:
        without_syscall(OPENAT2)
        with pytest.raises(HostLacks, match="openat2"):
            resolve.open_in_root(resolve.open_dir(str(tmp_path)), "x", os.O_PATH)

    in_child(body)
