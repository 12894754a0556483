"""The probe of /dev/kvm: no false yes, no hang, and a verdict that is kept for one boot."""

from __future__ import annotations

import os
import sys

import pytest

from podium.errors import BadInput, HostLacks
from podium_kvm import accelerator


def program(work: str, body: str) -> str:
    path = os.path.join(work, "probe.py")
    with open(path, "w") as f:
        f.write(body)
    return path


@pytest.fixture
def root(work: str) -> str:
    os.mkdir(os.path.join(work, "cache"))
    return work


def test_verdict_of_this_host_is_what_a_guest_shows(root: str) -> None:
    usable, reason = accelerator.probe(root)
    assert reason
    software = os.path.exists("/sys/module/kvm_pvm") or not os.path.exists(accelerator.DEVICE)
    if software:  # opens, makes machines, runs no guest
        assert not usable
        assert accelerator.choose(root, "auto").name == "tcg"
        with pytest.raises(HostLacks, match="KVM can't be used"):
            accelerator.choose(root, "kvm")
    else:
        assert accelerator.choose(root, "auto").name == ("kvm" if usable else "tcg")
    assert accelerator.choose(root, "tcg").name == "tcg"
    with pytest.raises(BadInput):
        accelerator.choose(root, "hvf")


@pytest.mark.parametrize(
    ("body", "usable"),
    [
        ("print('yes')", True),
        ("print('no: because')", False),
        ("print('yes'); raise SystemExit(1)", False),
        ("print('yes, nearly')", False),
        ("import os; os.abort()", False),
        ("", False),
    ],
)
def test_only_a_plain_yes_of_a_process_that_ended_well_is_one(work: str, body: str, usable: bool) -> None:
    verdict = accelerator.ask(program=program(work, body))
    assert verdict is not None and verdict[0] is usable
    assert verdict[1]


def test_probe_that_hangs_is_killed_and_is_no_verdict(work: str) -> None:
    pids = os.path.join(work, "pid")
    body = f"import os, time\nopen({pids!r}, 'w').write(str(os.getpid()))\ntime.sleep(600)"
    assert accelerator.ask(limit=1.0, program=program(work, body)) is None
    with open(pids) as f:
        assert not os.path.exists(f"/proc/{f.read()}")


def test_verdict_is_kept_for_this_boot_only(root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[bool] = []

    def ask() -> tuple[bool, str]:
        asked.append(True)
        return False, "said so"

    monkeypatch.setattr(accelerator, "ask", ask)
    monkeypatch.setattr(accelerator, "DEVICE", "/dev/null")
    assert accelerator.probe(root) == accelerator.probe(root) == (False, "said so")
    assert len(asked) == 1
    path = os.path.join(root, "cache", "kvm")
    with open(path) as f:
        kept = f.read()
    for other in (kept.replace(kept[:8], "00000000", 1), "", kept[:-20], "\n\n\n"):
        with open(path, "w") as f:
            f.write(other)
        assert accelerator.probe(root) == (False, "said so")
    assert len(asked) == 5


def test_passing_reason_is_not_kept(root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accelerator, "ask", lambda: (False, "for now the kernel refuses to run a guest (busy)"))
    monkeypatch.setattr(accelerator, "DEVICE", "/dev/null")
    assert accelerator.probe(root)[0] is False
    assert os.listdir(os.path.join(root, "cache")) == []


def test_timeout_is_not_kept(root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accelerator, "ask", lambda: None)
    monkeypatch.setattr(accelerator, "DEVICE", "/dev/null")
    usable, reason = accelerator.probe(root)
    assert not usable and "did not end" in reason
    assert os.listdir(os.path.join(root, "cache")) == []


def test_missing_device_is_named(root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accelerator, "DEVICE", os.path.join(root, "kvm"))
    usable, reason = accelerator.probe(root)
    assert not usable and "No such file" in reason


def test_probe_program_ends_with_one_line_for_a_device_that_is_none(work: str) -> None:
    import subprocess

    path = os.path.join(os.path.dirname(accelerator.__file__), "probe.py")
    done = subprocess.run([sys.executable, "-I", "-S", path, "/dev/null"], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("no: ") and done.stdout.count("\n") == 1
    assert done.stderr == ""
