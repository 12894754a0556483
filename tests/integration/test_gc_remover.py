"""The process that removes the folders of many pods."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import pytest

from podium.errors import InUse, PodiumError
from podium.gc.remover import Remover


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    for name in ("a", "b", "c"):
        (tmp_path / name / "deep" / "er").mkdir(parents=True)
    return tmp_path


def _pid(remover: Remover) -> int:
    return remover._pid


def test_it_removes_in_order_and_says_what_went_wrong(folders: Path) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "none", folders / "b" / "deep"], check=True)
    remover = Remover()
    try:
        for name in ("a", "b", "c", "not-there"):
            remover.begin(str(folders), name)
        results = [remover.result() for _ in range(4)]
    finally:
        remover.close()
        subprocess.run(["umount", folders / "b" / "deep"], check=True)
    assert [type(result) for result in results] == [type(None), InUse, type(None), type(None)]
    assert "mount point" in str(results[1])
    assert sorted(os.listdir(folders)) == ["b"]


def test_an_error_of_the_system_keeps_its_number_and_path(folders: Path) -> None:
    remover = Remover()
    try:
        remover.begin(str(folders / "gone"), "a")
        error = remover.result()
    finally:
        remover.close()
    assert isinstance(error, FileNotFoundError)
    assert error.filename == str(folders / "gone")


def test_it_has_no_descriptor_of_its_parent(folders: Path) -> None:
    fd = os.open(folders, os.O_RDONLY)
    remover = Remover()
    try:
        remover.begin(str(folders), "a")
        remover.result()
        links = {os.readlink(f"/proc/{_pid(remover)}/fd/{name}") for name in os.listdir(f"/proc/{_pid(remover)}/fd")}
    finally:
        remover.close()
        os.close(fd)
    assert not any(link.startswith(str(folders)) for link in links)


def test_one_that_was_killed_fails_what_it_had_not_done(folders: Path) -> None:
    remover = Remover()
    try:
        os.kill(_pid(remover), signal.SIGKILL)
        os.waitid(os.P_PID, _pid(remover), os.WEXITED | os.WNOWAIT)
        remover.begin(str(folders), "a")
        assert remover.ready()
        error = remover.result()
    finally:
        remover.close()
    assert isinstance(error, PodiumError)
    assert "killed" in error.message
    assert (folders / "a").is_dir()
