"""gc: mark, then sweep what is past its grace period. See docs/gc.md."""

from __future__ import annotations

from podium.contexts import contextmanager
from podium.events.emitter import Emitter
from podium.gc.marking import Marker
from podium.gc.report import Dispatched as Dispatched
from podium.gc.report import Failure as Failure
from podium.gc.report import GcReport as GcReport
from podium.gc.report import Kept as Kept
from podium.gc.report import Released as Released
from podium.paths import DataDir
from podium.pods import lifecycle
from podium.pods.lifecycle import PodRef

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from podium.config import Config
    from podium.stage1.client import Worker


def mark(
    data: DataDir, config: Config, *, expire_prepared: float, only: PodRef | None = None, dry_run: bool = False
) -> list[str]:
    """Mark exited pods as exited-garbage, and failed prepares, abandoned embryos and expired prepared pods as garbage.

    Args:
        data: where.
        config: for the cgroups' parent.
        expire_prepared: seconds; a prepared pod older than that is expired.
        only: this pod alone.
        dry_run: tell, but change nothing.

    Returns:
        Uuids of what was marked.
    """
    pods = lifecycle.scan(data) if only is None else [only]
    with _emitting(data, config, dry_run, only is None) as emitter:
        marker = Marker(data, config.get("cgroup", "parent"), expire_prepared, emitter, dry_run=dry_run)
        marker.mark(pods)
        return marker.done.marked


@contextmanager
def _emitting(data: DataDir, config: Config, dry_run: bool, whole: bool) -> Iterator[Emitter]:
    """Who logs the events of a pass; they are delivered when it has ended, all at once.

    Those of a pass over all pods are synced too, once. Of one pod that would be on the path of `run --rm`.
    """
    emitter = Emitter(data, config.get("hooks", "dir"))
    try:
        yield emitter
    finally:
        if not dry_run:
            if whole:
                emitter.sync()
            emitter.wake()


def collect(
    data: DataDir,
    config: Config,
    *,
    grace_period: float,
    expire_prepared: float,
    mark_only: bool = False,
    dry_run: bool = False,
    only: str | None = None,
    worker: Worker | None = None,
) -> GcReport:
    """Collect pods. What fails is in the report: the pod stays as gc-failed, and the pass goes on.

    Args:
        data: where.
        config: time limits, revoked plugins, the cgroups' parent.
        grace_period: seconds that a pod is kept after its end.
        expire_prepared: as in `mark`.
        mark_only: mark, but collect nothing.
        dry_run: tell what would be done, but change nothing.
        only: uuid of the one pod to collect.
        worker: the one that has run `only`; it ends with this.

    Raises:
        OSError: the data directory can't be read.
    """
    from podium.gc.sweeping import Sweep

    pods = lifecycle.scan(data) if only is None else _one(data, only)
    with _emitting(data, config, dry_run, only is None) as emitter:
        marker = Marker(data, config.get("cgroup", "parent"), expire_prepared, emitter, dry_run=dry_run)
        report = GcReport(marker.done.marked, [], marker.done.kept, marker.done.failed, [], [])
        if mark_only:
            marker.mark(pods)
            return report
        with Sweep(data, config, grace_period, report, marker.done.known, emitter, dry_run=dry_run) as sweep:
            if worker is not None and only is not None:
                sweep.adopt(worker, only)
            if only is None:
                sweep.finish_deletions()
            sweep.collect(pods, marker, wait=only is not None)
    return report


def _one(data: DataDir, uuid: str) -> list[PodRef]:
    from podium.errors import NotFound

    try:
        return [lifecycle.find(data, uuid)]
    except NotFound:
        return []
