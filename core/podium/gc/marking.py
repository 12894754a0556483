"""Mark: a rename for each pod that has ended, was abandoned, or was prepared and never run."""

from __future__ import annotations

import os

from podium.errors import Corrupt, HostLacks, PodiumError
from podium.gc import grace, knowledge
from podium.gc.knowledge import Known
from podium.gc.report import NO_FOLDER, Failure, Kept
from podium.linux import cgroup, procs
from podium.named import NamedTuple
from podium.paths import DEFAULT_CGROUP, EMBRYO, EXITED_GARBAGE, GARBAGE, PREPARE, PREPARED, RUN, DataDir
from podium.pods import envelope as envelopes
from podium.pods import lifecycle, lock
from podium.trace import trace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from podium.events.emitter import Emitter
    from podium.pods.lifecycle import PodRef

_ORPHANS = 1.0  # seconds that a process may take to end whose parent was killed
_TO = {EMBRYO: GARBAGE, PREPARE: GARBAGE, PREPARED: GARBAGE, RUN: EXITED_GARBAGE}


class Marking(NamedTuple):
    """What was marked so far; `known` is what was read of pods on the way, by uuid."""

    marked: list[str]
    kept: list[Kept]
    failed: list[Failure]
    known: dict[str, Known]


class Marker:
    """One pass over pods that are not marked yet.

    Args:
        data: where.
        parent: of the pods' cgroups, as configured.
        expire_prepared: seconds after which a prepared pod that nobody ran is garbage.
        emitter: logs what was done.
        dry_run: tell, but change nothing.
    """

    def __init__(
        self,
        data: DataDir,
        parent: str,
        expire_prepared: float,
        emitter: Emitter,
        *,
        dry_run: bool,
    ) -> None:
        self._data = data
        self._parent = parent
        self._expire = expire_prepared
        self._emitter = emitter
        self._dry = dry_run
        self._now = grace.now()
        self._cgroups: dict[str, set[str]] = {}
        self.done = Marking([], [], [], {})

    def mark(self, pods: Iterable[PodRef]) -> list[PodRef]:
        """Mark those of `pods` that can be; returns where they are now, and those that were marked before."""
        self._cgroups = {}  # as they are now
        marked = []
        for pod in pods:
            if pod.phase not in _TO:
                marked.append(pod)
                continue
            try:
                if (moved := self._consider(pod)) is not None:
                    marked.append(moved)
            except FileNotFoundError:
                continue  # somebody else was quicker
            except NotADirectoryError:
                self.done.kept.append(Kept(pod.uuid, NO_FOLDER))
            except (PodiumError, OSError) as e:
                reason = e.reason if isinstance(e, PodiumError) else "os-error"
                self.done.failed.append(Failure(pod.uuid, reason, str(e), 0))
        return marked

    def _consider(self, pod: PodRef) -> PodRef | None:
        if pod.phase == PREPARED and self._is_young(pod):
            return None
        fd = lock.try_lock(pod.path) or self._lock_of_orphans(pod)
        if fd is None:
            return None  # it is alive, or somebody works on it
        try:
            known = knowledge.read(pod)
            if known.newer is not None:
                self.done.failed.append(Failure(pod.uuid, known.newer.reason, known.newer.message, 0))
            elif self._ready(pod, known):
                return self._move(pod, known)
        finally:
            os.close(fd)
        return None

    def _is_young(self, pod: PodRef) -> bool:
        """Without its lock, so that nobody who wants to run it right now finds it locked."""
        try:
            age = grace.elapsed(grace.created(envelopes.read(pod.path)), self._now)
        except (Corrupt, FileNotFoundError):  # where the pod itself is gone, its lock can't be had either
            return False
        return age is not None and age < self._expire

    def _ready(self, pod: PodRef, known: Known) -> bool:
        if pod.phase == PREPARED:
            if self._expire <= 0:
                return True
            created = grace.created(known.envelope)
            return grace.age(pod.path, created, self._now, stamp=not self._dry) >= self._expire
        if pod.phase == RUN:
            for path in cgroup_paths(pod.uuid, known, self._parent):
                # We have its lock, so its supervisor has ended, and the pod ends with it.
                if self._populated(path) and not self._dry and not cgroup.kill(path):
                    pids = ", ".join(map(str, cgroup.procs(path)[:5]))
                    self.done.kept.append(Kept(pod.uuid, f"processes of it survive SIGKILL (pid {pids})"))
                    return False
        return True

    def _lock_of_orphans(self, pod: PodRef) -> int | None:
        """The lock of a pod whose supervisor was killed just now: what it had forked last may still hold the lock."""
        if pod.phase != RUN or self._dry:
            return None
        known = knowledge.read(pod)
        if known.newer is not None or known.runtime is None or known.runtime.supervisor is None:
            return None
        if procs.alive(known.runtime.supervisor):
            return None
        for path in cgroup_paths(pod.uuid, known, self._parent):
            if self._populated(path):
                cgroup.kill(path)
        return lock.try_lock_for(pod.path, _ORPHANS)

    def _populated(self, path: str) -> bool:
        parent, _, name = path.rpartition("/")
        try:
            if parent not in self._cgroups:
                self._cgroups[parent] = cgroup.existing(parent)
            return name in self._cgroups[parent] and cgroup.populated(path)
        except HostLacks:
            return False

    def _move(self, pod: PodRef, known: Known) -> PodRef:
        moved = pod
        if not self._dry:
            if pod.phase == RUN:
                # Where no end was recorded, the grace period begins now.
                grace.age(pod.path, grace.ended(known.runtime), self._now)
            trace("gc:mark")
            if pod.phase == PREPARED:
                self._emitter.pod(PREPARED, pod.path, pod.uuid)  # its folder will not tell that it was
            # Not fsynced: if a power loss undoes it, the next gc marks the pod again.
            moved = lifecycle.move(self._data, pod, _TO[pod.phase], durable=False)
            trace("gc:marked")
            self._emitter.pod(moved.phase, moved.path, moved.uuid)
        self.done.marked.append(pod.uuid)
        self.done.known[pod.uuid] = known
        return moved


def cgroup_paths(uuid: str, known: Known, parent: str) -> list[str]:
    """Where a pod's cgroup may be: as recorded, else below the configured or the usual parent."""
    paths = [f"{parent}/{uuid}", f"{DEFAULT_CGROUP}/{uuid}"]
    recorded = known.runtime.cgroup if known.runtime else ""
    if isinstance(recorded, str) and recorded.rpartition("/")[2] == uuid and ".." not in recorded.split("/"):
        paths.insert(0, recorded.lstrip("/"))
    return list(dict.fromkeys(paths))
