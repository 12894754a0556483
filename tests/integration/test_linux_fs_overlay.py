from __future__ import annotations

import os
from pathlib import Path

import pytest

from podium.linux import mount, overlay, resolve
from support.linux_fs import in_private_mounts, in_tmpfs

NAMES = [
    "plain",
    "a b",
    "co:lon",
    "com,ma",
    "back\\slash",
    "new\nline",
    "quo'te\"",
    "#x",
    "\udcff",
    "l" * 250,
    "\\,\\:",
]


def _layers(base: str, count: int = 2, prefix: str = "") -> tuple[list[str], str, str, str]:
    lowers = [os.path.join(base, f"{prefix}lower{number}") for number in range(count)]
    upper, work, target = (os.path.join(base, prefix + name) for name in ("upper", "work", "target"))
    for folder in (*lowers, upper, work, target):
        os.makedirs(folder)
    for number, lower in enumerate(lowers):
        Path(lower, "top").write_text(str(number))
        Path(lower, f"of{number}").touch()
    return lowers, upper, work, target


def _as_old_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    # No filter of system calls can tell fsconfig("lowerdir+") from another, so the answer is given here.
    monkeypatch.setattr(overlay, "_can_append_lowers", lambda: False)


@pytest.mark.parametrize("old_kernel", [False, True])
@pytest.mark.parametrize("name", NAMES)
def test_overlay_takes_any_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, old_kernel: bool) -> None:
    if old_kernel:
        _as_old_kernel(monkeypatch)

    def body(base: str) -> None:
        lowers, upper, work, target = _layers(os.path.join(base, name))
        overlay.mount_overlay(target, lowers, upper, work)
        assert {"top", "of0", "of1"} == set(os.listdir(target))
        assert Path(target, "top").read_text() == "0"
        Path(target, "new").write_text("new")
        assert Path(upper, "new").read_text() == "new"
        assert not os.path.exists(os.path.join(lowers[0], "new"))

    in_tmpfs(str(tmp_path), body)


@pytest.mark.parametrize(("old_kernel", "count"), [(False, 400), (True, 150)])
def test_many_lowers_in_long_paths(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, old_kernel: bool, count: int
) -> None:
    if old_kernel:
        _as_old_kernel(monkeypatch)

    def body(base: str) -> None:
        deep = os.path.join(base, *["d" * 200] * 5)
        lowers, upper, work, target = _layers(deep, count)
        before = set(os.listdir("/proc/self/fd"))
        overlay.mount_overlay(target, lowers, upper, work)
        assert set(os.listdir("/proc/self/fd")) == before
        assert Path(target, "top").read_text() == "0"
        assert len(os.listdir(target)) == count + 1

    in_tmpfs(str(tmp_path), body)


def test_too_many_lowers_for_an_old_kernel_are_refused_not_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _as_old_kernel(monkeypatch)
    lowers, upper, work, target = _layers(str(tmp_path), 300)
    with pytest.raises(OSError, match="4095"):
        overlay.mount_overlay(target, lowers, upper, work)


@pytest.mark.parametrize("old_kernel", [False, True])
@pytest.mark.parametrize("volatile", [False, True])
def test_read_only_volatile_and_descriptor_as_target(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, volatile: bool, old_kernel: bool
) -> None:
    if old_kernel:
        _as_old_kernel(monkeypatch)

    def body(base: str) -> None:
        lowers, upper, work, target = _layers(base)
        fd = resolve.open_dir(target)
        overlay.mount_overlay(fd, lowers, upper, work, volatile=volatile)
        (entry,) = mount.mounts_below(target, mount.read_mountinfo())
        assert bool({"volatile", "fsync=volatile"} & set(entry.super_options.split(","))) == volatile
        Path(target, "new").touch()
        mount.umount(target)
        overlay.mount_overlay(target, lowers, None, None, read_only=True)
        with pytest.raises(OSError, match="Read-only"):
            Path(target, "other").touch()
        assert Path(target, "top").read_text() == "0"

    in_tmpfs(str(tmp_path), body)


def test_what_the_kernel_says_is_in_the_error(tmp_path: Path) -> None:
    def body(base: str) -> None:
        lowers, upper, work, target = _layers(base)
        overlay.mount_overlay(target, lowers, upper, work)
        inner = _layers(target, prefix="inner")
        with pytest.raises(OSError, match="not supported") as caught:
            overlay.mount_overlay(inner[3], inner[0], inner[1], inner[2])
        assert "fsconfig upperdir" in str(caught.value)
        assert caught.value.filename == inner[1]

    in_tmpfs(str(tmp_path), body)


def test_probe_says_yes_of_a_plain_folder_and_leaves_nothing(tmp_path: Path, test_dir: str) -> None:
    before = mount.read_mountinfo()
    for folder in (str(tmp_path), test_dir):
        assert overlay.supports_overlay(folder)
        assert os.listdir(folder) == []
    odd = tmp_path / "o,d:d\n"
    odd.mkdir()
    assert overlay.supports_overlay(str(odd))
    assert mount.read_mountinfo() == before


def test_probe_says_no_of_an_overlay(tmp_path: Path) -> None:
    def of_overlay(base: str) -> None:
        lowers, upper, work, target = _layers(base)
        overlay.mount_overlay(target, lowers, upper, work)
        assert not overlay.supports_overlay(target)
        assert os.listdir(target) and not any(name.startswith(".overlay") for name in os.listdir(target))

    in_tmpfs(str(tmp_path), of_overlay)


def test_probe_says_no_of_a_file_system_without_extended_attributes(tmp_path: Path) -> None:
    def body() -> None:
        mount.mount("ramfs", str(tmp_path), "ramfs")
        assert not overlay.supports_overlay(str(tmp_path))
        assert os.listdir(tmp_path) == []

    in_private_mounts(body)
