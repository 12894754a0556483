"""How much memory podium's own processes hold for a running pod: PSS (proc_pid_smaps_rollup(5)), several pods running.

A supervisor becomes small once it has waited for a while: so it is measured at rest.

python bench/memory.py [--rounds 5]      (rounds: pods of each stage1)
"""

from __future__ import annotations

import json
import os
import subprocess
import time

from measuring import arguments, data_directory, make_rootfs, median, podium, run, verdict

BUDGET = 6.0  # MiB


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


def main() -> None:
    """Measure."""
    args = arguments(__doc__, 5)
    with data_directory() as root:
        rootfs = os.path.join(root, "rootfs-of-bench")
        make_rootfs(rootfs)
        data = os.path.join(root, "data")
        run(podium(data, "image", "import", rootfs, "--name", "bench", "--exec", "/bin/sh"))
        for stage1 in ("nspawn", "fly"):
            words = ("run", "--detach", "--stage1", stage1, "--net", "host", "bench", "--", "-c", "exec sleep 1000")
            for _ in range(args.rounds):
                run(podium(data, *words))
            try:
                listed = subprocess.check_output(podium(data, "list", "--format", "json"))
                uuids = [pod["uuid"] for pod in json.loads(listed)["pods"] if pod["state"] == "running"]
                status = [podium(data, "status", "--format", "json", uuid) for uuid in uuids]
                pods = [json.loads(subprocess.check_output(command))["pod"] for command in status]
                for pod in pods:
                    at_rest(pod["pid"])
                held = sorted(pss(pod["pid"]) for pod in pods)
            finally:
                run(podium(data, "stop", "--force", *uuids))
                run(podium(data, "gc", "--grace-period", "0s"))
            print(f"{stage1}: {len(held)} pods, PSS of a supervisor min {held[0]:.1f} max {held[-1]:.1f} MiB")
            verdict("median", median(held), BUDGET, " MiB")


if __name__ == "__main__":
    main()
