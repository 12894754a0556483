from __future__ import annotations

import os
from pathlib import Path

import pytest

from podium.linux import files
from support.linux_fs import in_tmpfs


@pytest.mark.parametrize("durable", [True, False])
def test_atomic_write_has_bytes_and_exact_mode(tmp_path: Path, durable: bool) -> None:
    old = os.umask(0o077)
    try:
        files.write_atomic(str(tmp_path / "f"), b"x" * 300_000, mode=0o664, durable=durable)
    finally:
        os.umask(old)
    assert (tmp_path / "f").read_bytes() == b"x" * 300_000
    assert (tmp_path / "f").stat().st_mode & 0o7777 == 0o664
    assert os.listdir(tmp_path) == ["f"]


def test_atomic_write_replaces_a_link_not_what_it_points_to(tmp_path: Path) -> None:
    (tmp_path / "kept").write_text("kept")
    (tmp_path / "f").symlink_to("kept")
    files.write_atomic(str(tmp_path / "f"), b"new")
    assert (tmp_path / "kept").read_text() == "kept"
    assert not (tmp_path / "f").is_symlink()


def test_failed_atomic_write_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "f").mkdir()
    with pytest.raises(IsADirectoryError):
        files.write_atomic(str(tmp_path / "f"), b"new")
    assert os.listdir(tmp_path) == ["f"]


def test_full_file_system_leaves_the_old_content(tmp_path: Path) -> None:
    def fill(folder: str) -> None:
        path = os.path.join(folder, "f")
        files.write_atomic(path, b"old")
        with pytest.raises(OSError, match="No space") as caught:
            files.write_atomic(path, b"x" * 4_000_000)
        assert caught.value.filename == path
        assert os.listdir(folder) == ["f"]
        with open(path, "rb") as file:
            assert file.read() == b"old"

    in_tmpfs(str(tmp_path), fill, "size=1m")


@pytest.mark.parametrize("durable", [True, False])
def test_of_files_begun_together_those_finished_are_there(tmp_path: Path, durable: bool) -> None:
    before = len(os.listdir("/proc/self/fd"))
    with (
        pytest.raises(KeyError),
        files.Writing(str(tmp_path / "a"), b"a", durable=durable) as a,
        files.Writing(str(tmp_path / "b"), b"b", mode=0o600, durable=durable) as b,
        files.Writing(str(tmp_path / "c"), b"c", durable=durable),
    ):
        assert not (tmp_path / "a").exists()
        b.finish()
        a.finish()
        raise KeyError("before the third")
    assert sorted(os.listdir(tmp_path)) == ["a", "b"]
    assert (tmp_path / "b").read_bytes() == b"b" and (tmp_path / "b").stat().st_mode & 0o7777 == 0o600
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize("kind", ["file", "folder", "dangling"])
def test_rename_noreplace_never_replaces(tmp_path: Path, kind: str) -> None:
    (tmp_path / "old").mkdir()
    new = tmp_path / "new"
    {"file": new.touch, "folder": new.mkdir, "dangling": lambda: new.symlink_to("nowhere")}[kind]()
    with pytest.raises(FileExistsError) as caught:
        files.rename_noreplace(str(tmp_path / "old"), str(new))
    assert caught.value.filename2 == str(new)
    assert "renameat2" in str(caught.value)
    assert (tmp_path / "old").is_dir()


def test_rename_noreplace_renames(tmp_path: Path) -> None:
    (tmp_path / "old").mkdir()
    files.rename_noreplace(str(tmp_path / "old"), str(tmp_path / "new"))
    assert os.listdir(tmp_path) == ["new"]
