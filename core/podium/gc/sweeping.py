"""Sweep: release what marked pods hold on the host, verify, and hand their folders over to deletion."""

from __future__ import annotations

import os

from podium.errors import Corrupt, InterfaceMismatch, PluginFailed, PluginRefused, PodiumError
from podium.events.emitter import COLLECTED
from podium.gc import audit, grace, knowledge, reclaim
from podium.gc.deletion import Deletion
from podium.gc.marking import cgroup_paths
from podium.gc.report import NO_FOLDER, Dispatched, Failure, GcReport, Kept, Released
from podium.named import NamedTuple
from podium.paths import EXITED_GARBAGE, GARBAGE, DataDir
from podium.pods import lifecycle, lock
from podium.pods.ledger import PodLedger
from podium.pods.lifecycle import GC_FAILED, PodRef
from podium.stage1.dispatch import Choice, Dispatcher
from podium.trace import trace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from podium.config import Config
    from podium.events.emitter import Emitter
    from podium.gc.knowledge import Known
    from podium.gc.marking import Marker
    from podium.stage1.client import Worker


_TOGETHER = 200  # pods that are marked, then swept: so folders are deleted while the next ones are marked
_AHEAD = 16  # pods that a plugin is asked for before its first answer is read: so nobody waits for the other


class _Request(NamedTuple):
    """A pod that a worker was asked to release: number of the request."""

    choice: Choice
    worker: Worker
    number: int


class _Job(NamedTuple):
    """A pod that is being collected: the descriptor that holds its lock; its ledger, and that file's size, before."""

    pod: PodRef
    fd: int
    known: Known
    ledger: PodLedger
    size: int
    request: _Request | None


class Sweep:
    """One pass over marked pods; see `collector.collect` for the arguments."""

    def __init__(
        self,
        data: DataDir,
        config: Config,
        grace_period: float,
        report: GcReport,
        known: dict[str, Known],
        emitter: Emitter,
        *,
        dry_run: bool,
    ) -> None:
        self._data = data
        self._parent = config.get("cgroup", "parent")
        self._timeout = config.get("stage1", "gc-timeout")
        self._grace = grace_period
        self._report = report
        self._known = known
        self._dry = dry_run
        self._now = grace.now()
        self._emitter = emitter
        self._dispatcher = Dispatcher(data, config)
        self._loaded: set[Choice] = set()
        self._unusable: dict[Choice, str] = {}
        self._host: audit.Host | None = None
        self._told: set[str] = set()  # uuids of pods whose events are logged up to their marking

    def __enter__(self) -> Sweep:
        """Workers end when the block does."""
        return self

    def __exit__(self, *exc: object) -> None:
        self._dispatcher.__exit__(*exc)

    def adopt(self, worker: Worker, uuid: str) -> None:
        """Use a worker that is there already, for the pod that it has run; it ends when the block does."""
        self._dispatcher.adopt(worker, uuid)

    def collect(self, pods: list[PodRef], marker: Marker, *, wait: bool = False) -> None:
        """Mark what can be marked of `pods`, and collect those past their grace period that nobody else is at.

        Args:
            pods: where they were last seen.
            marker: marks them.
            wait: for one that somebody else is at, until he is done.
        """
        with Deletion(self._data, self._deleted, len(pods), self._taken) as self._deletion:
            for start in range(0, len(pods), _TOGETHER):
                marked = marker.mark(pods[start : start + _TOGETHER])
                self._told = {*self._report.marked}
                self._host = None  # what these hold on the host can be seen only now that their supervisors have ended
                self._collect(marked, wait)

    def _collect(self, pods: list[PodRef], wait: bool) -> None:
        for start in range(0, len(pods), _AHEAD):
            jobs = [job for pod in pods[start : start + _AHEAD] if (job := self._begin(pod, wait)) is not None]
            for job in jobs:
                self._finish(job)

    def _taken(self, uuid: str, folder: str) -> None:
        self._emitter.pod(COLLECTED, folder, uuid)

    def _deleted(self, pod: PodRef, error: PodiumError | OSError | None) -> None:
        if error is None:
            self._report.collected.append(pod.uuid)
        else:
            self._failed(pod, error)

    def _begin(self, pod: PodRef, wait: bool) -> _Job | None:
        """Lock a pod that is due, and ask the plugin to release what it took; None: there is nothing more to do."""
        try:
            locked = lifecycle.lock_pod(self._data, pod)
        except NotADirectoryError:
            self._report.kept.append(Kept(pod.uuid, NO_FOLDER))
            return None
        while locked is not None and locked[1] is None and wait:
            lock.wait_free(locked[0].path)
            locked = lifecycle.lock_pod(self._data, pod)
        if locked is None:
            return None
        pod, fd = locked
        if fd is None:
            return None
        try:
            if self._is_due(pod):
                trace("gc:locked")
                known = self._known.pop(pod.uuid)
                ledger, size = knowledge.read_ledger(pod)
                job = _Job(pod, fd, known, ledger, size, self._ask(pod, known))
                if self._host is None:
                    self._host = audit.Host(self._data)  # while the plugin is at work
                fd = -1
                return job
        except (PodiumError, OSError) as e:
            self._failed(pod, e)
        finally:
            if fd >= 0:
                os.close(fd)
        return None

    def _finish(self, job: _Job) -> None:
        fd = job.fd
        try:
            if job.pod.uuid not in self._told:
                self._emitter.pod(job.pod.phase, job.pod.path, job.pod.uuid)
            self._release(job)
            trace("gc:delete")
            self._deletion.take(job.pod, fd)
            fd = -1
        except (PodiumError, OSError) as e:
            self._failed(job.pod, e)
        finally:
            if fd >= 0:
                os.close(fd)

    def _is_due(self, pod: PodRef) -> bool:
        known = self._known.get(pod.uuid) or knowledge.read(pod)
        self._known[pod.uuid] = known
        if pod.phase not in (EXITED_GARBAGE, GARBAGE):
            if self._dry and pod.uuid in self._report.marked:
                self._report.collected.append(pod.uuid)  # it would be by now
            return False
        if known.newer is not None:
            self._report.failed.append(Failure(pod.uuid, known.newer.reason, known.newer.message, 0))
            return False
        if pod.phase == EXITED_GARBAGE and self._grace > 0:
            age = grace.age(pod.path, grace.ended(known.runtime), self._now, stamp=not self._dry)
            if age < self._grace:
                left = self._grace - age
                self._report.kept.append(Kept(pod.uuid, f"its grace period lasts {left:.0f} s more"))
                return False
        if self._dry:
            self._report.collected.append(pod.uuid)
        return not self._dry

    def _release(self, job: _Job) -> None:
        """Release everything of a pod. Raises what prevents it."""
        assert self._host is not None
        pod, uuid = job.pod, job.pod.uuid
        if job.request is not None:
            self._answer(job.request, pod)
        trace("gc:plugin-done")
        ledger = job.ledger if knowledge.ledger_size(pod) == job.size else knowledge.read_ledger(pod)[0]
        folder = os.path.join(self._host.pods, pod.phase, uuid)
        touched = self._walk(uuid, folder, job.ledger, ledger)
        trace("gc:ledger-done")
        cgroups = cgroup_paths(uuid, job.known, self._parent)
        found = audit.release(self._host, uuid, folder, cgroups)
        self._report.released.extend(Released(uuid, kind, id, "audit") for kind, id in found)
        trace("gc:audited")
        if touched or found:
            audit.verify(self._data, uuid, cgroups)
        trace("gc:verified")

    def _ask(self, pod: PodRef, known: Known) -> _Request | None:
        """Send the plugin the pod to release, if it is to be had."""
        choice = self._dispatch(pod, known)
        if choice is None:
            return None
        trace("call:gc")
        worker = self._dispatcher.worker(choice)
        try:
            number = worker.begin("gc", pod.path)
        except PluginFailed:
            number = 0  # it ended over another pod; `_answer` asks a new one
        return _Request(choice, worker, number)

    def _answer(self, request: _Request, pod: PodRef) -> None:
        """Wait for the plugin. A worker serves its requests in turn, so one that has ended had not begun the later."""
        choice, worker, number = request
        try:
            if not worker.usable:
                worker = self._dispatcher.worker(choice)
                number = worker.begin("gc", pod.path)
            worker.result(number, "gc", self._timeout)
        except PluginFailed:
            self._loaded.discard(choice)  # it may have ended, and the next pod need a new one
            raise

    def _dispatch(self, pod: PodRef, known: Known) -> Choice | None:
        """The code that serves the pod, loaded; None: the ledger serves."""
        envelope = known.envelope
        if envelope is None:
            if known.problem is not None:
                self._report.dispatch.append(Dispatched(pod.uuid, "unknown", "", "", "ledger", known.problem.message))
            return None
        choice = self._dispatcher.choose(envelope)
        why = "; ".join(choice.why_not)
        if choice.via != "ledger":
            if choice not in self._unusable and choice not in self._loaded:
                try:
                    self._dispatcher.worker(choice)
                    self._loaded.add(choice)
                except (PluginRefused, InterfaceMismatch) as e:
                    self._unusable[choice] = e.message
            if choice in self._unusable:
                why = "; ".join((*choice.why_not, self._unusable[choice]))
                choice = Choice("ledger", None)
        s = envelope.stage1
        self._report.dispatch.append(Dispatched(pod.uuid, s.name, s.version, s.digest, choice.via, why))
        return None if choice.via == "ledger" else choice

    def _walk(self, uuid: str, folder: str, before: PodLedger, ledger: PodLedger) -> bool:
        """Release what the ledger lists, the last first; returns whether anything was listed before."""
        listed = {r.number: (r, before.from_this_boot(r)) for r in before.outstanding()}
        still = {r.number for r in ledger.outstanding()}
        listed.update({r.number: (r, ledger.from_this_boot(r)) for r in ledger.outstanding()})
        for number in sorted(listed, reverse=True):
            resource, this_boot = listed[number]
            claim = reclaim.Claim(resource, uuid, folder, this_boot)
            if number not in still:
                if not _is_left(claim):
                    self._report.released.append(Released(uuid, resource.kind, resource.id, "plugin"))
                    continue
                number = _list_again(ledger, claim)
            if reclaim.release(claim):
                self._report.released.append(Released(uuid, resource.kind, resource.id, "ledger"))
            try:
                ledger.released(number, "ledger")
            except OSError:
                pass  # a full disk must not keep a pod; the next walk would find it gone
            trace(f"gc:released:{resource.kind}")
        return bool(listed)

    def _failed(self, pod: PodRef, error: PodiumError | OSError) -> None:
        reason = error.reason if isinstance(error, PodiumError) else "os-error"
        attempts = record_failure(pod.path, reason, str(error))
        self._emitter.pod(pod.phase, pod.path, pod.uuid)
        self._report.failed.append(Failure(pod.uuid, reason, str(error), attempts))

    def finish_deletions(self) -> None:
        """Delete what a gc, a prepare or an import that was killed has left."""
        if self._dry:
            return
        from podium.store import workspace

        with Deletion(self._data, self._deleted, 0, self._taken) as deletion:
            deletion.take_abandoned()
        workspace.sweep(self._data)


def record_failure(folder: str, reason: str, message: str) -> int:
    """Write gc-failed.json; returns the attempts so far. A full disk loses the count, not the pod."""
    from podium import records
    from podium.clock import rfc3339
    from podium.linux.files import write_atomic

    path, at = os.path.join(folder, GC_FAILED), rfc3339()
    try:
        old = records.read(path, "the gc record")
        attempts, first = int(old["attempts"]) + 1, str(old["first"])
    except (OSError, Corrupt, KeyError, TypeError, ValueError):
        attempts, first = 1, at
    record = {"reason": reason, "message": message, "attempts": attempts, "first": first, "last": at}
    try:
        write_atomic(path, records.seal(record) + b"\n", durable=False)
    except OSError:
        pass
    return attempts


def _is_left(claim: reclaim.Claim) -> bool:
    """Whether core can see that something is there still, of which the plugin recorded the release."""
    try:
        return reclaim.present(claim)
    except (reclaim.NotProvable, reclaim.NoReclaimer):
        return False  # another's by now, or nothing that core can see


def _list_again(ledger: PodLedger, claim: reclaim.Claim) -> int:
    """Put back what was struck off the ledger too early, so that a failure to release it now is not the end of it."""
    resource = claim.resource
    try:
        number = ledger.intend(resource.kind, resource.id, **resource.attrs)
        ledger.held(number)
    except OSError:
        return resource.number
    return number
