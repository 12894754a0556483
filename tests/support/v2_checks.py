"""What runs in the machine of v2_guest.py: limits by their effect, and what is left, where all is cgroup v2.

python v2_checks.py PODIUM FOLDER IMAGE…, which prints a line `CHECK STAGE1 ok`, or `failed:` and why, for each.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

ROOT = "/sys/fs/cgroup"
PARENT = f"{ROOT}/podium"
NETWORKS = {"nspawn": "none", "fly": "host"}
_PATIENCE = 60.0  # seconds, under emulation


class Guest:
    """podium in the guest, with one stage1."""

    def __init__(self, podium: str, data: str, stage1: str) -> None:
        self._argv = [podium, "--dir", data]
        self._stage1 = ("--stage1", stage1, "--net", NETWORKS[stage1])
        self.stage1 = stage1

    def __call__(self, *words: str, check: int | None = 0) -> subprocess.CompletedProcess[str]:
        """A command of podium's."""
        done = subprocess.run([*self._argv, *words], stdin=subprocess.DEVNULL, capture_output=True, text=True)
        assert check is None or done.returncode == check, f"{words} ended with {done.returncode}: {done.stderr}"
        return done

    def run(
        self, script: str, *app: str, pod: tuple[str, ...] = ("--rm",), image: str = "box", check: int | None = 0
    ) -> subprocess.CompletedProcess[str]:
        """`podium run` of a shell script; `app` are options of the app, `pod` of the pod."""
        return self("run", *self._stage1, *pod, image, *app, "--", "-c", script, check=check)

    def status(self, uuid: str) -> Any:
        """What `podium status` tells of the pod."""
        return json.loads(self("status", "--format", "json", uuid).stdout)["pod"]


def memory(guest: Guest) -> None:
    done = guest.run("exec tail /dev/zero", "--memory", "64Mi", check=137)
    assert "memory" in done.stderr, done.stderr


def pids(guest: Guest) -> None:
    done = guest.run("for i in 1 2 3 4 5 6 7 8 9; do sleep 1 & done; echo done", "--pids", "4", check=None)
    assert "can't fork" in done.stderr and done.returncode, done


def cpu_and_usage(guest: Guest) -> None:
    loop = "i=0; while :; do i=$((i+1)); done"
    uuid = guest.run(loop, "--cpu", "200m", "--cpu-shares", "512", pod=("-d",)).stdout.strip()
    folder = f"{PARENT}/{uuid}/box"
    deadline = time.monotonic() + _PATIENCE
    while _counter(f"{folder}/cpu.stat", "nr_throttled") < 3:
        assert time.monotonic() < deadline, "the app is not throttled"
        time.sleep(0.1)
    assert _read(f"{folder}/cpu.weight") == "20"
    pod = guest.status(uuid)
    assert pod["memory_bytes"] > 0 and pod["cpu_seconds"] > 0, pod
    guest("stop", "--timeout", "1s", uuid)
    guest("rm", uuid)


def block_bandwidth(guest: Guest) -> None:
    _throttled(guest, "slow", "bs=1M count=2", "2097152")


def block_iops(guest: Guest) -> None:
    _throttled(guest, "seldom", "bs=4k count=40", "163840")


def _throttled(guest: Guest, image: str, size: str, length: str) -> None:
    """Twice what may be written in a second; the limit itself is in the app's own cgroup."""
    write = f"a=$(cut -d' ' -f1 /proc/uptime); dd if=/dev/zero of=/f {size} oflag=direct conv=fsync 2>/dev/null;"
    done = guest.run(f"{write} b=$(cut -d' ' -f1 /proc/uptime); wc -c < /f; echo $a $b", image=image)
    written, begin, end = done.stdout.split()
    assert written == length and float(end) - float(begin) > 0.9, done.stdout


def what_is_left_running(guest: Guest) -> None:
    guest.run("setsid sleep 1000 < /dev/null > /dev/null 2>&1 & exit 3", pod=(), check=3)
    guest("gc", "--grace-period", "0s")
    with open("/proc/self/mountinfo", encoding="ascii") as f:
        assert "/mnt/data/" not in f.read()
    assert not os.path.exists(PARENT), os.listdir(PARENT)


def two_apps_and_enter(guest: Guest) -> None:
    if guest.stage1 == "fly":
        return
    app = ("--", "-c", "exec sleep 1000")
    pod = ("run", "-d", "--net", "none")
    uuid = guest(*pod, "box", "--name", "a", *app, "---", "box", "--name", "b", *app).stdout.strip()
    pids = {each["name"]: each["pid"] for each in guest.status(uuid)["apps"]}
    for name, pid in pids.items():
        assert _read(f"/proc/{pid}/cgroup") == f"0::/podium/{uuid}/{name}"
        assert str(pid) in _read(f"{PARENT}/{uuid}/{name}/cgroup.procs").split()
    entered = guest("enter", "--app", "b", uuid, "--", "cat", "/proc/self/cgroup").stdout.strip()
    assert entered == f"0::/podium/{uuid}/b", entered
    os.kill(guest.status(uuid)["pid"], 9)
    guest("rm", "--force", uuid)
    assert not os.path.exists(PARENT), os.listdir(PARENT)


CHECKS: tuple[Callable[[Guest], None], ...] = (
    *(memory, pids, cpu_and_usage, block_bandwidth, block_iops, what_is_left_running, two_apps_and_enter),
)


def _read(path: str) -> str:
    with open(path, encoding="ascii") as f:
        return f.read().strip()


def _counter(path: str, name: str) -> int:
    return int(next(line.split()[1] for line in _read(path).splitlines() if line.startswith(name)))


def main(podium: str, data: str, *images: str) -> None:
    """Do all checks with each stage1."""
    with open("/proc/self/mountinfo", encoding="ascii") as f:
        kinds = {line.split(" - ")[1].split()[0] for line in f if f" {ROOT}" in line}
    assert kinds == {"cgroup2"}, kinds
    for image in images:
        Guest(podium, data, "nspawn")("image", "import", image)
    for stage1 in NETWORKS:
        for check in CHECKS:
            try:
                check(Guest(podium, data, stage1))
                print(check.__name__, stage1, "ok", flush=True)
            except Exception as e:
                print(check.__name__, stage1, f"failed: {type(e).__name__}: {' '.join(str(e).split())}", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
