"""A virtual machine with volumes and a network whose virtiofsd or supervisor is killed: it ends, nothing is left."""

from __future__ import annotations

import json
import os
import signal
import time

import pytest

from support.command import Podium

pytestmark = pytest.mark.usefixtures("host_guard")


def _virtiofsds(folder: str) -> list[int]:
    """Those that serve something below a folder; they are two each, one a child of the other."""
    found = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{name}/cmdline", encoding="utf-8", errors="replace") as f:
                argv = f.read().split("\0")
        except OSError:
            continue
        if argv[0].endswith("virtiofsd") and folder in "".join(argv):
            found.append(int(name))
    return sorted(found)


@pytest.mark.parametrize("victim", ["virtiofsd", "supervisor"])
def test_a_pod_ends_with_the_server_of_its_volumes(podium: Podium, busybox_oci: str, victim: str) -> None:
    podium("image", "import", busybox_oci, "--name", "box")
    uuid = podium.out(
        *("run", "-d", "--stage1", "kvm", "--net", "default", "--volume", "e,kind=empty"),
        *("box", "--mount", "volume=e,target=/e", "--", "sh", "-c", "while :; do date >/e/x; sleep 0.1; done"),
    )
    first, *_ = _virtiofsds(podium.dir)
    with open(os.path.join(podium.dir, "pods", "run", uuid, "runtime.json"), encoding="utf-8") as f:
        supervisor = json.load(f)["supervisor"]["pid"]
    os.kill(first if victim == "virtiofsd" else supervisor, signal.SIGKILL)
    deadline = time.monotonic() + 30
    while _state(podium, uuid) != "exited" and time.monotonic() < deadline:
        time.sleep(0.1)
    assert _state(podium, uuid) == "exited"
    podium("gc", "--grace-period", "0s")
    assert not podium.pods() and not _virtiofsds(podium.dir)


def _state(podium: Podium, uuid: str) -> str:
    return str(podium.json("status", uuid)["pod"]["state"])
