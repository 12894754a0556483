"""Mark and sweep. See docs/gc.md for the order of the steps and why a crash between any two of them harms nothing."""

from __future__ import annotations

import os
import time

from podium import records
from podium.clock import parse, rfc3339
from podium.config import Config
from podium.errors import Corrupt, PodiumError
from podium.gc import grace
from podium.gc.audit import Audit
from podium.gc.reclaim import reclaim
from podium.gc.report import Dispatched, Failure, GcReport, Kept, Released
from podium.linux import cgroup
from podium.linux.tree import remove_tree
from podium.paths import EXITED_GARBAGE, GARBAGE, PREPARED, RUN, DataDir
from podium.pods import envelope as envelopes
from podium.pods import lifecycle, lock, status
from podium.pods.envelope import Envelope
from podium.pods.ledger import PodLedger
from podium.pods.lifecycle import GC_FAILED, PodRef
from podium.stage1.dispatch import Dispatcher
from podium.trace import trace
from podium.types import Resource

_KEPT_TO_THE_END = (envelopes.FILE, GC_FAILED)
_GONE = "gone-"


def collect(
    data: DataDir,
    config: Config,
    *,
    grace_period: float,
    expire_prepared: float,
    mark_only: bool = False,
    dry_run: bool = False,
    only: str | None = None,
) -> GcReport:
    """One pass over all pods, or over one.

    Args:
        data: the data directory.
        config: for the plugins' time limits and revoked pins.
        grace_period: seconds that a pod is kept once it has ended.
        expire_prepared: seconds after which a prepared pod that was not run is given up.
        mark_only: do not collect.
        dry_run: say what would be done, change nothing.
        only: uuid of the one pod to collect.
    """
    return _Pass(data, config, grace_period, expire_prepared, dry_run, only).run(mark_only)


class _Pass:
    def __init__(
        self,
        data: DataDir,
        config: Config,
        grace_period: float,
        expire_prepared: float,
        dry_run: bool,
        only: str | None,
    ) -> None:
        self._data = data
        self._config = config
        self._grace = grace_period
        self._expire = expire_prepared
        self._dry_run = dry_run
        self._only = only
        self._report = GcReport([], [], [], [], [], [])
        self._existing: dict[str, set[str]] = {}

    def run(self, mark_only: bool) -> GcReport:
        if not self._dry_run and self._only is None:
            self._finish_deletions()
        garbage = []
        for pod in self._pods():
            try:
                if (marked := self._mark(pod)) is not None:
                    garbage.append(marked)
            except OSError as e:
                self._failed(pod, "failed", f"it could not be marked: {e}")
        if mark_only or not garbage:
            return self._report
        due = [pod for pod in garbage if self._due(pod)]
        if self._dry_run:
            self._report.collected.extend(pod.uuid for pod in due)
        elif due:
            self._sweep(due)
        return self._report

    def _pods(self) -> list[PodRef]:
        if self._only is None:
            return lifecycle.scan(self._data)
        return [pod for pod in lifecycle.scan(self._data) if pod.uuid == self._only]

    # mark

    def _mark(self, pod: PodRef) -> PodRef | None:
        """The pod as garbage, marked now or before; None if it is not."""
        if pod.phase in (EXITED_GARBAGE, GARBAGE):
            return pod
        if pod.phase == PREPARED and not self._expired(pod):
            return None
        if self._dry_run:
            try:
                free = not lock.is_locked(pod.path) and not self._populated(pod)
            except FileNotFoundError:
                return None
            if free:
                self._report.marked.append(pod.uuid)
            return pod if free else None
        try:
            fd = lock.try_lock(pod.path)
        except FileNotFoundError:
            return None  # it moved on meanwhile; whoever moved it goes on with it
        if fd is None:
            return None
        try:
            if self._populated(pod):
                return None
            moved = lifecycle.move(self._data, pod, EXITED_GARBAGE if pod.phase == RUN else GARBAGE, durable=False)
            trace("gc:marked")
            if self._grace > 0:
                grace.mark(moved)
        finally:
            os.close(fd)
        self._report.marked.append(pod.uuid)
        return moved

    def _expired(self, pod: PodRef) -> bool:
        if self._only is not None:
            return True
        try:
            created = parse(envelopes.read(pod.path).created)
        except (Corrupt, ValueError, FileNotFoundError):
            created = os.stat(pod.path).st_ctime
        return time.time() - created >= self._expire

    def _populated(self, pod: PodRef) -> bool:
        """There are processes in its cgroup: it runs, whatever its lock says."""
        if pod.phase != RUN:
            return False
        path = self._cgroup(pod)
        parent, _, name = path.rpartition("/")
        if parent not in self._existing:
            self._existing[parent] = cgroup.existing(parent)
        return name in self._existing[parent] and cgroup.populated(path)

    def _cgroup(self, pod: PodRef) -> str:
        try:
            runtime = status.read_runtime(pod.path)
        except Corrupt:
            runtime = None
        return (runtime and runtime.cgroup) or f"{self._config.get('cgroup', 'parent')}/{pod.uuid}"

    def _due(self, pod: PodRef) -> bool:
        if self._grace <= 0:
            return True
        left = self._grace - grace.age(pod)
        if left > 0:
            self._report.kept.append(Kept(pod.uuid, f"its grace period ends in {left:.0f} s"))
        return left <= 0

    # sweep

    def _sweep(self, due: list[PodRef]) -> None:
        parents = {self._config.get("cgroup", "parent"), "podium"}
        audit = Audit(self._data, parents)
        with Dispatcher(self._data, self._config) as dispatcher:
            for pod in due:
                try:
                    fd = lock.try_lock(pod.path)
                except FileNotFoundError:
                    continue  # somebody else has collected it
                if fd is None:
                    continue  # somebody else is collecting it
                try:
                    self._collect(pod, dispatcher, audit)
                except PodiumError as e:
                    self._failed(pod, e.reason, e.message)
                except OSError as e:
                    self._failed(pod, "failed", str(e))
                finally:
                    os.close(fd)

    def _collect(self, pod: PodRef, dispatcher: Dispatcher, audit: Audit) -> None:
        envelope = self._envelope(pod)
        trace("gc:locked")
        ledger = self._ledger(pod)
        before = ledger.outstanding() if ledger else []
        if envelope is not None:
            self._call_plugin(pod, envelope, dispatcher)
            trace("gc:plugin-done")
            if before:
                ledger = self._ledger(pod)
        left = ledger.outstanding() if ledger else []
        still = {r.number for r in left}
        self._released(pod, [(r.kind, r.id) for r in before if r.number not in still], "plugin")
        for resource in reversed(left):
            reclaim(pod, resource)
            trace("gc:reclaimed")
            self._released(pod, [(resource.kind, resource.id)], "ledger")
        self._audit(pod, audit)
        trace("gc:verified")
        self._delete(pod)
        self._report.collected.append(pod.uuid)

    def _envelope(self, pod: PodRef) -> Envelope | None:
        try:
            envelope = envelopes.read(pod.path)
        except (Corrupt, FileNotFoundError):
            if pod.phase != GARBAGE or os.path.exists(os.path.join(pod.path, envelopes.FILE)):
                self._report.dispatch.append(Dispatched(pod.uuid, "", "", "", "ledger"))
            return None
        envelope.features.require(f"pod {pod.uuid}", envelope.prepared_by, full=False)
        return envelope

    def _ledger(self, pod: PodRef) -> PodLedger | None:
        try:
            return PodLedger(pod.path)
        except (Corrupt, OSError):
            return None  # the audit finds what it may have named

    def _call_plugin(self, pod: PodRef, envelope: Envelope, dispatcher: Dispatcher) -> None:
        choice = dispatcher.choose(envelope)
        s = envelope.stage1
        self._report.dispatch.append(Dispatched(pod.uuid, s.name, s.version, s.digest, choice.via))
        if choice.via != "ledger":
            dispatcher.worker(choice).call("gc", pod.path, self._config.get("stage1", "gc-timeout"))

    def _audit(self, pod: PodRef, audit: Audit) -> None:
        """Release what no ledger lists; each reclaimer verifies that it is gone."""
        for number, left in enumerate(audit.of(pod.uuid)):
            resource = Resource(number=number, kind=left.kind, id=left.id, attrs=left.attrs, held=True)
            if left.kind == "cgroup" and pod.uuid not in cgroup.existing(left.id.rpartition("/")[0]):
                continue  # released since
            reclaim(pod, resource)
            self._released(pod, [(left.kind, left.id)], "audit")

    def _released(self, pod: PodRef, what: list[tuple[str, str]], by: str) -> None:
        self._report.released.extend(Released(pod.uuid, kind, id, by) for kind, id in what)

    def _delete(self, pod: PodRef) -> None:
        """Delete the folder, the envelope last: a pod half deleted is still one that gc knows how to collect."""
        folder = lock.open_folder(pod.path)
        try:
            for name in os.listdir(folder):
                if name not in _KEPT_TO_THE_END:
                    remove_tree(folder, name)
            trace("gc:emptied")
        finally:
            os.close(folder)
        # No room needed: a rename in one file system, then the last files.
        gone = self._data.at("tmp", _GONE + pod.uuid)
        os.rename(pod.path, gone)
        trace("gc:gone")
        remove_tree(self._data.tmp, _GONE + pod.uuid)

    def _finish_deletions(self) -> None:
        """Delete what a gc that was killed had taken out of pods/ already."""
        try:
            names = os.listdir(self._data.tmp)
        except FileNotFoundError:
            return
        for name in names:
            if name.startswith((_GONE, "pod-")):
                try:
                    fd = lock.try_lock(self._data.at("tmp", name))
                except (FileNotFoundError, NotADirectoryError):
                    continue
                if fd is not None:
                    remove_tree(self._data.tmp, name)
                    os.close(fd)

    def _failed(self, pod: PodRef, reason: str, message: str) -> None:
        path = os.path.join(pod.path, GC_FAILED)
        try:
            previous = records.read(path)
        except (OSError, Corrupt):
            previous = {}
        attempts, now = int(previous.get("attempts", 0)) + 1, rfc3339()
        self._report.failed.append(Failure(pod.uuid, reason, message, attempts))
        record = {"reason": reason, "message": message, "attempts": attempts}
        record |= {"first": previous.get("first", now), "last": now}
        from podium.linux.files import write_atomic

        try:
            write_atomic(path, records.seal(record) + b"\n", durable=False)
        except OSError:
            pass  # a full disk: the report says it, the record is kept all the same
