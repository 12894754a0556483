"""Units as systemd reads them, and READY as a service manager gets it: a socket of the test's stands for systemd's."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from collections.abc import Iterator

import pytest

from podium.actions.systemd import quoted
from podium.testing import notifier
from support.command import Podium
from support.fly import until
from support.images import make_busybox_rootfs
from support.rest import rested

CONTRIB = os.path.join(os.path.dirname(__file__), "..", "..", "contrib", "systemd")


@pytest.fixture
def manager(test_dir: str) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(os.path.join(test_dir, "notify"))
        sock.settimeout(60.0)
        yield sock


def _verify(*units: str) -> None:
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *units], capture_output=True, text=True, check=False, timeout=60
    )
    told = [line for line in done.stderr.splitlines() if any(os.path.basename(unit) in line for unit in units)]
    assert told == [], done.stderr


def test_units_are_accepted_by_systemd(podium: Podium, busybox_rootfs: str, test_dir: str) -> None:
    podium("image", "import", busybox_rootfs, "--name", "box", "--exec", "/bin/true")
    uuid = podium.out("prepare", "--stage1", "fly", "--net", "host", "box")
    texts = {
        "of-images": podium(
            "generate", "systemd", "--stage1", "nspawn", "--name", "web", "--notify", "box", "box"
        ).stdout,
        "of-a-pod": podium("generate", "systemd", uuid).stdout,
    }
    for name, text in texts.items():
        with open(os.path.join(test_dir, f"{name}.service"), "w", encoding="utf-8") as f:
            f.write(text)
        _verify(os.path.join(test_dir, f"{name}.service"))
    assert f"run-prepared {uuid}\n" in texts["of-a-pod"] and "\nRestart=no\n" in texts["of-a-pod"]
    assert "run --rm --stage1 nspawn --name web box --notify --- box --notify\n" in texts["of-images"]
    podium("rm", uuid)
    podium("generate", "systemd", "no-such", check=None)


def test_a_wrong_unit_is_seen(test_dir: str) -> None:
    path = os.path.join(test_dir, "wrong.service")
    with open(path, "w", encoding="utf-8") as f:
        f.write("[Service]\nExecStart=/no/such/program\n")
    with pytest.raises(AssertionError):
        _verify(path)


def test_shipped_units_are_accepted_by_systemd(test_dir: str) -> None:
    for name in ("podium-gc.service", "podium-gc.timer"):
        with open(os.path.join(CONTRIB, name), encoding="utf-8") as f:
            text = f.read()
        with open(os.path.join(test_dir, name), "w", encoding="utf-8") as f:
            f.write(text.replace("/usr/local/bin/podium", "/bin/true"))
    _verify(*(os.path.join(test_dir, name) for name in ("podium-gc.service", "podium-gc.timer")))


@pytest.mark.parametrize(
    ("word", "expected"),
    [("a/b", "a/b"), ("a b", '"a b"'), ("5%", '"5%%"'), ("$x", '"$$x"'), ('"', '"\\""'), ("", '""')],
)
def test_words_are_quoted_for_systemd(word: str, expected: str) -> None:
    assert quoted(word) == expected


@pytest.mark.parametrize("stage1", ["fly", "nspawn"])
def test_ready_is_told_once_apps_run_and_exit_codes_are_kept(
    podium: Podium, busybox_rootfs: str, manager: socket.socket, stage1: str
) -> None:
    podium("image", "import", busybox_rootfs, "--name", "box", "--exec", "/bin/sh")
    told = podium.using(podium.binary, NOTIFY_SOCKET=manager.getsockname())
    script = "trap 'exit 7' TERM; while :; do sleep 0.1; done"
    process = told.start("run", "--rm", "--stage1", stage1, "--net", "host", "box", "--", "-c", script)
    assert manager.recv(4096) == b"READY=1\n"
    until(lambda: _is_running(podium), "the pod")
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert process.returncode == 7


def _is_running(podium: Podium) -> bool:
    return any(pod["state"] == "running" for pod in podium.pods().values())


@pytest.mark.parametrize(("stage1", "net"), [("fly", "host"), ("nspawn", "none"), ("kvm", "none")])
def test_ready_of_an_app_is_passed_on(
    podium: Podium, test_dir: str, manager: socket.socket, stage1: str, net: str
) -> None:
    root = make_busybox_rootfs(os.path.join(test_dir, "rootfs"))
    podium("image", "import", root, "--name", "box", "--exec", "/bin/sh")
    told = podium.using(podium.binary, NOTIFY_SOCKET=manager.getsockname())
    # It is ready when the file is there, and podium must not have told before.
    script = f"{notifier.placed('/notify')}; echo $NOTIFY_SOCKET; cat; /notify $NOTIFY_SOCKET READY=1; exec sleep 1000"
    process = told.start(
        *("run", "--rm", "--stage1", stage1, "--net", net, "box", "--notify", "--", "-c", script), stdin=subprocess.PIPE
    )
    assert process.stdout is not None and process.stdin is not None
    assert process.stdout.readline() == "/run/podium-notify\n"
    manager.setblocking(False)
    with pytest.raises(BlockingIOError):
        manager.recv(4096)
    manager.settimeout(60.0)
    (uuid,) = podium.pods()
    rested(podium, uuid)  # it passes on what it is told all the same
    process.stdin.close()
    process.stdin = None
    assert manager.recv(4096) == b"READY=1\n"
    process.terminate()
    process.communicate(timeout=60)
    assert process.returncode == 143


def test_a_stage1_without_it_and_a_read_only_run_are_refused(podium: Podium, busybox_rootfs: str) -> None:
    podium("image", "import", busybox_rootfs, "--name", "box", "--exec", "/bin/true")
    run = ("run", "--rm", "--stage1", "fly", "--net", "host", "box", "--notify", "--readonly-rootfs")
    assert "/run/podium-notify" in podium(*run, check=125).stderr
