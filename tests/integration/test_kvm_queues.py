"""The memory that a guest needs for the buffers of its ports, of which QEMU says how many there are."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from podium.types import App, Pod
from podium_kvm import making, queues

_SAYS = '{"QMP": {}}\\n{"return": {}}\\n{"return": {"vring-num": %d}}'


def _qemu(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> str:
    """The data directory, with a QEMU that is this script; it writes down that it was asked."""
    (folder / "cache").mkdir(exist_ok=True)
    program = folder / queues.QEMU
    program.write_text(f"#!/bin/sh\necho asked >>{folder}/asked\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    return str(folder)


def test_the_qemu_of_this_host_says_it() -> None:
    assert queues.ask(queues.needed(queues.QEMU, "qemu-system-x86")) in (queues.FEW, queues.MANY)


def test_each_qemu_is_asked_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = _qemu(tmp_path, monkeypatch, f"printf '{_SAYS % 256}'")
    assert [queues.size(data), queues.size(data)] == [256, 256]
    assert (tmp_path / "asked").read_text() == "asked\n"
    _qemu(tmp_path, monkeypatch, f"printf '{_SAYS % 1024}'")
    assert queues.size(data) == 1024
    (tmp_path / "cache/kvm-queues").write_bytes(b"/qemu 7\nmany\n")
    assert queues.size(data) == 1024


@pytest.mark.parametrize("script", ["exit 1", "echo '{'", "echo 7", "echo '{\"return\": {}}'", "printf '\\377'"])
def test_of_one_that_does_not_say_it_many_are_expected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str
) -> None:
    data = _qemu(tmp_path, monkeypatch, script)
    assert queues.size(data) == queues.MANY
    assert not (tmp_path / "cache/kvm-queues").exists()


@pytest.mark.parametrize(("apps", "few", "many"), [(1, 128, 212), (2, 128, 226), (8, 128, 320)])
def test_what_a_guest_gets(apps: int, few: int, many: int) -> None:
    named = (App(name=f"a{n}", image="box", image_id="", rootfs="/", exec=("/bin/true",)) for n in range(apps))
    pod = Pod(uuid="", name=None, dir="", data_root="", apps=tuple(named))
    assert (making.memory_of(pod, queues.FEW), making.memory_of(pod, queues.MANY)) == (few, many)
