"""What is left of a pod that no ledger lists: one look at the host serves a whole pass."""

from __future__ import annotations

import os
from typing import NamedTuple

from podium.linux import cgroup, mount, procs
from podium.paths import DataDir
from podium.pods.lifecycle import is_uuid

_PROC_LINKS = ("root", "cwd", "exe")


class Leftover(NamedTuple):
    """A resource that is a pod's by its nature: kind and id as in a ledger, and what a reclaimer needs to know."""

    kind: str
    id: str
    attrs: dict[str, object]


class Audit:
    """Mounts, processes, links and cgroups that name pods, gathered once."""

    def __init__(self, data: DataDir, cgroup_parents: set[str]) -> None:
        self._found: dict[str, list[Leftover]] = {}
        for entry in mount.read_mountinfo():
            self._name(data, entry.target, Leftover("mount", entry.target, {"mount_id": entry.id}))
        self._processes(data)
        self._links()
        for parent in cgroup_parents:
            for name in cgroup.existing(parent):
                if is_uuid(name):
                    self._add(name, Leftover("cgroup", f"{parent}/{name}", {}))

    def of(self, uuid: str) -> list[Leftover]:
        """What was found of a pod, innermost mounts first."""
        return sorted(self._found.get(uuid, []), key=lambda left: (left.kind == "mount", -left.id.count("/")))

    def _add(self, uuid: str, leftover: Leftover) -> None:
        self._found.setdefault(uuid, []).append(leftover)

    def _name(self, data: DataDir, path: str, leftover: Leftover) -> None:
        """File under the pod in whose folder `path` is."""
        if "/pods/" not in path:
            return
        parts = path.split("/")
        for before, phase, uuid in zip(parts, parts[1:], parts[2:], strict=False):
            if before == "pods" and is_uuid(uuid) and os.path.isdir(data.pod(phase, uuid)):
                self._add(uuid, leftover)

    def _processes(self, data: DataDir) -> None:
        me = os.getpid()
        for name in os.listdir("/proc"):
            if not name.isdigit() or int(name) == me:
                continue
            for link in _PROC_LINKS:
                try:
                    target = os.readlink(f"/proc/{name}/{link}")
                except OSError:
                    continue  # gone, or a kernel thread
                if "/pods/" in target:
                    process = procs.identify(int(name))
                    if process is not None:
                        self._name(data, target, Leftover("process", name, process.to_json()))
                    break

    def _links(self) -> None:
        for name in os.listdir("/sys/class/net"):
            try:
                with open(f"/sys/class/net/{name}/ifalias", encoding="utf-8", errors="replace") as f:
                    words = f.read().replace(":", " ").split()
            except OSError:
                continue
            for word in words:
                if is_uuid(word[-36:]):
                    self._add(word[-36:], Leftover("link", name, {}))
