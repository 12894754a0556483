"""Exited pods that `podium gc` collects per second: the whole process, with start-up, plugin, audit and deletion.

    python bench/gc.py [--pods 1000] [--rounds 3]

The pods' folders are written as podium writes them (fsyncs aside): pods of the fly stage1 that ran and ended. rkt 1.30
was measured on the same kind of pod, with its mounts gone already: 124 pods per second at best. Most of the time is the
file system's, so `rm -rf` of as many folders is measured in turn. PODIUM_BENCH_DIR names another file system.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import time
from collections.abc import Callable

from measuring import PODIUM, data_directory

from podium import format, records
from podium.clock import rfc3339, since_boot
from podium.features import Features
from podium.linux.procs import boot_id
from podium.paths import RUN, DataDir
from podium.pods.envelope import AppRef, Envelope, Stage1
from podium.pods.ledger import PodLedger
from podium.pods.lifecycle import new_uuid
from podium.pods.status import AppStatus, Runtime, write_app, write_runtime
from podium.stage1 import pins, registry

RKT = 124  # pods per second
ROOTFS = "stage1/rootfs/app"


def make_pods(data: DataDir, count: int) -> None:
    """Write the folders of `count` exited fly pods."""
    plugin = registry.installed("fly")
    pin = pins.current(data, plugin)
    pins.ensure(data, plugin, pin)
    stage1 = Stage1("fly", plugin.version, 1, 1, pin.digest, pin.pin, plugin.entry, plugin.distribution)
    for _ in range(count):
        _make_pod(data, stage1)


def _make_pod(data: DataDir, stage1: Stage1) -> None:
    uuid = new_uuid()
    folder, image = data.pod(RUN, uuid), "sha256:" + "ab" * 32
    for name in ("status", "stage1/apps", *(f"{ROOTFS}/{name}" for name in ("rootfs", "upper/etc", "work/work"))):
        os.makedirs(os.path.join(folder, name))
    app = AppRef("app", "busybox", image, "tree")
    envelope = Envelope(uuid, None, rfc3339(), stage1, (app,), ("tree",), (image,), {}, Features(), "podium bench")
    _write(folder, "envelope.json", records.seal(envelope.to_json()) + b"\n")
    _write(folder, "pod", json.dumps(_manifest(image)).encode() + b"\n")
    ledger = PodLedger(folder)
    with ledger.take("cgroup", f"podium/{uuid}") as number:
        pass
    ledger.released(number, "stage1")
    finished = rfc3339()
    write_runtime(
        folder, Runtime(cgroup=f"podium/{uuid}", started=finished, finished=finished,
                        finished_boottime=since_boot(), boot=boot_id(), exit_code=0),
    )  # fmt: skip
    write_app(folder, AppStatus("app", "exited", exit_code=0, started=finished, finished=finished))
    _write(folder, "plugin.log", b"")
    _write(folder, "stage1/apps/app.json", b"{}\n")
    for name in ("hosts", "resolv.conf"):
        _write(folder, f"{ROOTFS}/upper/etc/{name}", b"")


def _manifest(image: str) -> dict[str, object]:
    app = {"exec": ["/bin/true"], "user": "0", "group": "0"}
    return {
        "acVersion": "0.8.11",
        "acKind": "PodManifest",
        "apps": [{"name": "app", "image": {"id": "sha512-" + "ab" * 64}, "app": app}],
        "volumes": [],
        "isolators": [],
        "annotations": [{"name": "podium/net", "value": "host"}],
    }


def _write(folder: str, name: str, content: bytes) -> None:
    with open(os.path.join(folder, name), "wb") as f:
        f.write(content)


def measure(count: int, command: Callable[[DataDir], list[str]]) -> tuple[float, bytes]:
    """Pods per second of `command` over `count` exited pods in a fresh data directory, and what it prints."""
    with data_directory() as root:
        data = DataDir(root)
        format.ensure(data)
        make_pods(data, count)
        start = time.perf_counter()
        done = subprocess.run(command(data), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, check=True)
        seconds = time.perf_counter() - start
        assert not os.path.isdir(data.phase(RUN)) or not os.listdir(data.phase(RUN))
        return count / seconds, done.stdout


def gc(count: int) -> float:
    """`podium gc`."""
    words = ["gc", "--grace-period", "0s", "--format", "json"]
    rate, printed = measure(count, lambda data: [PODIUM, "--dir", data.root, *words])
    report = json.loads(printed)
    assert len(report["collected"]) == count and not report["failed"], report["failed"][:1]
    assert {d["via"] for d in report["dispatch"]} == {"installed"}
    return rate


def rm(count: int) -> float:
    """`rm -rf` of the same folders: what the file system alone costs at that moment."""
    return measure(count, lambda data: ["rm", "-rf", data.phase(RUN)])[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pods", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    rounds = [(gc(args.pods), rm(args.pods)) for _ in range(args.rounds)]
    rates = sorted(rate for rate, _ in rounds)
    middle = rates[len(rates) // 2]
    ratio = sorted(rate / bare for rate, bare in rounds)[len(rounds) // 2]
    print(f"gc of {args.pods} exited fly pods: {middle:.0f} pods/s ({', '.join(f'{r:.0f}' for r in rates)})")
    print(f"  {middle / RKT:.1f} x rkt's {RKT} pods/s")
    print(
        f"  {ratio:.2f} x a bare rm -rf of the same folders ({', '.join(f'{bare:.0f}' for _, bare in rounds)} pods/s)"
    )


if __name__ == "__main__":
    main()
