"""A virtual machine whose QEMU or supervisor is killed: nothing is left, and the other app's end is known."""

from __future__ import annotations

import json
import os
import signal
import time

import pytest

from support.command import Podium

pytestmark = pytest.mark.usefixtures("host_guard")


def _status(podium: Podium, uuid: str) -> str:
    return " ".join(podium.out("status", uuid).split())


@pytest.mark.parametrize("victim", ["leader", "supervisor"])
def test_11_no_helper_of_a_virtual_machine_survives(podium: Podium, busybox_oci: str, victim: str) -> None:
    podium("image", "import", busybox_oci, "--name", "box")
    uuid = podium.out(
        *("run", "-d", "--stage1", "kvm", "--net", "none", "box", "--name", "a", "--", "true"),
        *("---", "box", "--name", "b", "--", "sleep", "1000"),
    )
    deadline = time.monotonic() + 30
    while "exited with 0" not in _status(podium, uuid) and time.monotonic() < deadline:
        time.sleep(0.1)
    with open(os.path.join(podium.dir, "pods", "run", uuid, "runtime.json"), encoding="utf-8") as f:
        runtime = json.load(f)
    qemu, killed = runtime["leader"]["pid"], runtime[victim]["pid"]
    os.kill(killed, signal.SIGKILL)
    deadline = time.monotonic() + 30
    while "state: exited" not in _status(podium, uuid) and time.monotonic() < deadline:
        time.sleep(0.1)
    told = _status(podium, uuid)
    assert "state: exited" in told and "exited with 0" in told
    podium("gc", "--grace-period", "0s")
    assert not podium.pods() and not os.path.exists(f"/proc/{qemu}")
