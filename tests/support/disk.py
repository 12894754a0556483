"""Pods as podium writes them, without running one: for what is made of a pod's folder afterwards."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from podium import format, records
from podium.clock import rfc3339, since_boot
from podium.config import load
from podium.features import Features
from podium.gc.collector import GcReport, collect
from podium.linux.procs import boot_id
from podium.paths import RUN, DataDir
from podium.pods import ledger as ledgers
from podium.pods.envelope import AppRef, Envelope, Stage1, write
from podium.pods.ledger import PodLedger
from podium.pods.lifecycle import new_uuid
from podium.pods.status import AppStatus, Runtime, write_app, write_runtime

NOBODY = Stage1("nobody", "1", 1, 1, "sha256:" + "0" * 64, "sha256-" + "0" * 64, "nobody", "nobody")
IMAGE = "sha256:" + "a" * 64


class Disk:
    """A data directory.

    Attributes:
        data: its paths.
        config: as the command would have it.
    """

    def __init__(self, root: str, config_file: str) -> None:
        self.data = DataDir(root)
        self.config = load(config_file)
        format.ensure(self.data)

    def pod(
        self,
        phase: str = RUN,
        *,
        stage1: Stage1 = NOBODY,
        features: Features = Features(),  # noqa: B008
        created: str | None = None,
        runtime: Runtime | None = None,
        ran: bool = True,
        name: str | None = None,
    ) -> str:
        """A pod that has ended, by default of a plugin that is not to be had; returns its folder."""
        uuid = new_uuid()
        folder = self.data.pod(phase, uuid)
        os.makedirs(os.path.join(folder, "stage1"))
        app = AppRef("app", "image", IMAGE, "tree")
        write(
            folder,
            Envelope(uuid, name, created or rfc3339(), stage1, (app,), ("tree",), (IMAGE,), {}, features, "podium 99"),
        )
        if ran:
            os.mkdir(os.path.join(folder, "status"))
            write_runtime(folder, runtime or self.ended(uuid))
            write_app(folder, AppStatus("app", "exited", exit_code=0))
        return folder

    def ended(self, uuid: str, **changes: Any) -> Runtime:
        """The runtime record of a pod that ended now."""
        run = Runtime(
            cgroup=self.cgroup(uuid), finished=rfc3339(), finished_boottime=since_boot(), boot=boot_id(), exit_code=0
        )
        return run._replace(**changes)

    def cgroup(self, uuid: str) -> str:
        """Path of a pod's cgroup."""
        return f"{self.config.get('cgroup', 'parent')}/{uuid}"

    def collect(self, **changes: Any) -> GcReport:
        """One gc, without grace unless said otherwise."""
        return collect(self.data, self.config, **{"grace_period": 0.0, "expire_prepared": 86400.0, **changes})

    def uuids(self) -> set[str]:
        """All pods that are left, and what is left of them elsewhere."""
        phases = [os.path.join(self.data.pods, phase) for phase in os.listdir(self.data.pods)]
        return {name for folder in [*phases, self.data.tmp] for name in os.listdir(folder)}


def hold(folder: str, kind: str, id: str, **attrs: Any) -> int:
    """Put a resource into a pod's ledger, as held."""
    ledger = PodLedger(folder)
    number = ledger.intend(kind, id)
    ledger.held(number, **attrs)
    return number


def from_another_boot(folder: str) -> None:
    """Let a pod's ledger be that of an earlier boot."""
    path = os.path.join(folder, ledgers.FILE)
    with open(path, "rb") as f:
        lines = [records.unseal(line, path) for line in f.read().splitlines()]
    for line in lines:
        if "boot" in line:
            line["boot"] = "00000000-0000-0000-0000-000000000000"
    with open(path, "wb") as f:
        f.writelines(records.seal(line) + b"\n" for line in lines)


@contextmanager
def sleeper(*command: str) -> Iterator[Any]:
    """A process that sleeps, by default; ended and reaped afterwards. Yields its Popen."""
    import subprocess

    process = subprocess.Popen(command or ("sleep", "1000"), stdin=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.kill()
        process.wait()
