"""How much memory podium's own processes hold for a running pod: PSS (proc_pid_smaps_rollup(5)), several pods running.

A supervisor becomes small once it has waited for a while: so it is measured at rest. Of a virtual machine there are
also the processes that stand for its apps: pods of one app and of four tell what each further one takes.

python bench/memory.py [--rounds 5]      (rounds: pods of each stage1)
"""

from __future__ import annotations

import json
import subprocess
import time
from typing import Any

from measuring import arguments, data_directory, median, podium, run, verdict, with_image

BUDGET = 6.0  # MiB
_SLEEP = ("-c", "exec sleep 1000")


def pss(pid: int) -> float:
    """MiB."""
    with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as f:
        return next(int(line.split()[1]) for line in f if line.startswith("Pss:")) / 1024


def at_rest(pid: int) -> None:
    """Wait until a supervisor is."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        with open(f"/proc/{pid}/comm", encoding="ascii") as f:
            if f.read() == "podium-resting\n":
                return
        time.sleep(0.05)
    raise SystemExit(f"the supervisor {pid} does not come to rest")


def own(pod: dict[str, Any]) -> list[int]:
    """Pids of podium's own processes for a running pod, from what `status` says of it."""
    apps = pod["apps"] if pod["stage1"]["name"] == "kvm" else []  # else they are the apps themselves
    return [pod["pid"], *(app["pid"] for app in apps)]


def measured(data: str, stage1: str, apps: int, pods: int) -> list[float]:
    """PSS of podium's own processes for each of several pods, sorted."""
    net = "none" if stage1 == "kvm" else "host"
    words = [word for number in range(apps) for word in ("---", "bench", "--name", f"app{number}", "--", *_SLEEP)][1:]
    for _ in range(pods):
        run(podium(data, "run", "--detach", "--stage1", stage1, "--net", net, *words))
    listed = subprocess.check_output(podium(data, "list", "--format", "json"))
    uuids = [pod["uuid"] for pod in json.loads(listed)["pods"] if pod["state"] == "running"]
    try:
        status = [podium(data, "status", "--format", "json", uuid) for uuid in uuids]
        found = [json.loads(subprocess.check_output(command))["pod"] for command in status]
        for pod in found:
            at_rest(pod["pid"])
        return sorted(sum(map(pss, own(pod))) for pod in found)
    finally:
        run(podium(data, "stop", "--force", *uuids))
        run(podium(data, "gc", "--grace-period", "0s"))


def main() -> None:
    """Measure."""
    args = arguments(__doc__, 5)
    with data_directory() as root:
        data = with_image(root, "/bin/sh")
        for stage1 in ("nspawn", "fly", "kvm"):
            held = measured(data, stage1, 1, args.rounds)
            print(f"{stage1}: {len(held)} pods, PSS of podium's own min {held[0]:.1f} max {held[-1]:.1f} MiB")
            verdict("median", median(held), BUDGET, " MiB")
        more = (median(measured(data, "kvm", 4, args.rounds)) - median(held)) / 3
        print(f"  each further app of a virtual machine: {more:.2f} MiB")


if __name__ == "__main__":
    main()
