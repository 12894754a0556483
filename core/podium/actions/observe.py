"""list, status, wait: what can be said of pods without loading any plugin. Reads change nothing."""

from __future__ import annotations

import os
import stat
import time

from podium.errors import BadUsage, Corrupt, NotFound, PodiumError
from podium.named import NamedTuple
from podium.paths import DEFAULT_CGROUP, RUN, DataDir
from podium.pods import envelope as envelopes
from podium.pods import lifecycle, status
from podium.pods.lifecycle import GC_FAILED, PodRef

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Any

    from podium.actions.context import Context


class Problem(NamedTuple):
    """What is wrong with a pod."""

    reason: str
    message: str


class AppInfo(NamedTuple):
    """An app of a listing."""

    name: str
    image: str | None
    image_id: str | None
    state: str
    exit_code: int | None
    signal: str | None
    pid: int | None
    started: str | None
    finished: str | None
    restarts: int
    message: str | None


class PodInfo(NamedTuple):
    """A pod of a listing; what a damaged record would say is None, and `problem` says why."""

    uuid: str
    name: str | None
    state: str
    stage1: envelopes.Stage1 | None
    created: str | None
    runtime: status.Runtime | None
    apps: tuple[AppInfo, ...]
    labels: dict[str, str]
    problem: Problem | None
    path: str

    def to_json(self, *, full: bool = False) -> dict[str, Any]:
        """One element of `podium.list/1`; with `full` as in `podium.status/1`."""
        run, s = self.runtime, self.stage1
        result: dict[str, Any] = {
            "uuid": self.uuid,
            "name": self.name,
            "state": self.state,
            "stage1": s and {k: getattr(s, k) for k in ("name", "version", "digest", "pin", "interface")},
            "created": self.created,
            "started": run and run.started,
            "finished": run and run.finished,
            "apps": [self._app(app, full) for app in self.apps],
            "networks": list(run.networks) if run else [],
            "labels": self.labels,
            "problem": self.problem and self.problem._asdict(),
        }
        if full:
            result |= self._details()
        return result

    def _app(self, app: AppInfo, full: bool) -> dict[str, Any]:
        keys = ("name", "image", "image_id", "state", "exit_code", "signal")
        return app._asdict() if full else {k: getattr(app, k) for k in keys}

    def _details(self) -> dict[str, Any]:
        run = self.runtime
        details: dict[str, Any] = {
            "pid": run.supervisor.pid if run and run.supervisor and self.state == "running" else None,
            "leader": run.leader.pid if run and run.leader and self.state == "running" else None,
            "exit_code": run and run.exit_code,
            "cgroup": (run and run.cgroup) or None,
            "detached": run and run.detached,
            "via": run and run.via,
            "facts": run.facts if run else {},
            "memory_bytes": None,
            "cpu_seconds": None,
        }
        if run and self.state == "running":
            from podium.linux import cgroup, procs

            usage = cgroup.usage(run.cgroup)
            if usage.memory_bytes is None or usage.cpu_seconds is None:
                # No controller counts here (a v2 host that passes none down): what the processes have, one by one.
                usage = cgroup.Usage(*procs.resources(cgroup.procs(run.cgroup)))
            details |= {"memory_bytes": usage.memory_bytes, "cpu_seconds": usage.cpu_seconds}
        return details


class _Cgroups:
    """One listing for all pods: which have a cgroup at all."""

    def __init__(self) -> None:
        self._existing: dict[str, set[str]] = {}

    def populated(self, path: str) -> bool:
        from podium.linux import cgroup

        parent, _, name = path.rpartition("/")
        if parent not in self._existing:
            self._existing[parent] = cgroup.existing(parent)
        return name in self._existing[parent] and cgroup.populated(path)


def list_pods(data: DataDir) -> list[PodInfo]:
    """All pods; a damaged record costs its own pod's line only."""
    cgroups = _Cgroups()
    found: dict[str, PodInfo] = {}
    for pod in lifecycle.scan(data):
        info = _look_at(data, pod, cgroups)
        if info is not None:
            found[pod.uuid] = info  # one that moved on meanwhile is seen twice: the later phase counts
    return list(found.values())


def _look_at(data: DataDir, pod: PodRef, cgroups: _Cgroups) -> PodInfo | None:
    try:
        return _look(data, pod, cgroups)
    except OSError as e:
        return _unreadable(pod, e)


def _unreadable(pod: PodRef, error: OSError) -> PodInfo:
    """A uuid in pods/ that is no folder, or one on a disk that fails: told, but no reason to tell nothing else."""
    problem = Problem("corrupt", f"pod {pod.uuid} can't be read: {error.strerror}")
    return PodInfo(pod.uuid, None, pod.phase, None, None, None, (), {}, problem, pod.path)


def look(data: DataDir, ref: str) -> PodInfo:
    """One pod. Raises NotFound, BadUsage, Ambiguous."""
    info = _look_at(data, lifecycle.find(data, ref), _Cgroups())
    if info is None:
        raise NotFound(f"no pod {ref!r}", subject=ref)
    return info


def _look(data: DataDir, pod: PodRef, cgroups: _Cgroups) -> PodInfo | None:
    now: PodRef | None = pod
    while now is not None:
        try:
            return _info(now, cgroups)
        except FileNotFoundError:
            moved = lifecycle.again(data, now)
            now = moved if moved != now else None
    return None


def _info(pod: PodRef, cgroups: _Cgroups) -> PodInfo:
    problem: Problem | None = None
    envelope: envelopes.Envelope | None = None
    runtime: status.Runtime | None = None
    try:
        envelope = envelopes.read(pod.path)
        envelope.features.require(f"pod {pod.uuid}", envelope.prepared_by, full=True)
    except FileNotFoundError:
        if not os.path.isdir(pod.path):
            raise
        if pod.phase != "embryo":
            problem = Problem("corrupt", f"the envelope of pod {pod.uuid} is missing")
    except PodiumError as e:
        problem = Problem(e.reason, e.message)
    if pod.phase not in ("embryo", "prepare", "prepared"):
        try:
            runtime = status.read_runtime(pod.path)
        except Corrupt as e:
            problem = problem or Problem(e.reason, e.message)
    cgroup = (runtime and runtime.cgroup) or f"{DEFAULT_CGROUP}/{pod.uuid}"
    state = lifecycle.state(pod)
    if pod.phase == RUN and state == "exited" and cgroups.populated(cgroup):
        state = "running"
        problem = problem or Problem("held", _survivors(cgroup))
    elif pod.phase == RUN and state == "running" and _supervisor_is_gone(runtime):
        problem = problem or Problem("held", _holders(pod))
    if state == "gc-failed":
        problem = problem or _gc_failed(pod)
    apps, app_problem = _apps(pod, envelope, runtime, state)
    return PodInfo(
        uuid=pod.uuid,
        name=envelope and envelope.name,
        state=state,
        stage1=envelope and envelope.stage1,
        created=envelope and envelope.created,
        runtime=runtime,
        apps=apps,
        labels=envelope.labels if envelope else {},
        problem=problem or app_problem or _manifest_problem(pod),
        path=pod.path,
    )


def _supervisor_is_gone(runtime: status.Runtime | None) -> bool:
    from podium.linux.procs import alive

    return runtime is not None and runtime.supervisor is not None and not alive(runtime.supervisor)


def _holders(pod: PodRef) -> str:
    """Who has the pod's folder open, and so may hold the lock."""
    wanted, found = os.stat(pod.path), []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            if int(pid) != os.getpid() and any(
                os.path.samestat(wanted, os.stat(f"/proc/{pid}/fd/{fd}")) for fd in os.listdir(f"/proc/{pid}/fd")
            ):
                found.append(pid)
        except OSError:
            continue  # it has ended, or closed that file
    who = f"pid {', '.join(found)}" if found else "a process that can't be seen from here"
    return f"the supervisor has ended, but its lock is held by {who}"


def _survivors(cgroup_path: str) -> str:
    from podium.linux import cgroup

    pids = ", ".join(map(str, cgroup.procs(cgroup_path)[:5]))
    return f"its supervisor has ended, but processes of it live on (pid {pids}); 'podium stop' or gc ends them"


def _gc_failed(pod: PodRef) -> Problem:
    from podium import records

    try:
        failed = records.read(os.path.join(pod.path, GC_FAILED), f"the gc record of pod {pod.uuid}")
        return Problem(str(failed.get("reason")), f"{failed.get('message')} (attempts: {failed.get('attempts')})")
    except (OSError, Corrupt) as e:
        return Problem("gc-failed", str(e))


def _manifest_problem(pod: PodRef) -> Problem | None:
    """A look at the manifest's ends only: a listing parses none."""
    try:
        fd = os.open(f"{pod.path}/pod", os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        missing = pod.phase not in ("embryo", "prepare", "garbage")
        return Problem("corrupt", f"the manifest of pod {pod.uuid} is missing") if missing else None
    except OSError as e:
        return Problem("corrupt", f"the manifest of pod {pod.uuid} can't be read: {e.strerror}")
    try:
        about = os.fstat(fd)
        if not stat.S_ISREG(about.st_mode):
            return Problem("corrupt", f"the manifest of pod {pod.uuid} is no regular file")
        size = about.st_size
        whole = size <= 4 << 20 and os.pread(fd, 1, 0) == b"{" and os.pread(fd, 2, max(0, size - 2)) == b"}\n"
    finally:
        os.close(fd)
    return None if whole else Problem("corrupt", f"the manifest of pod {pod.uuid} is damaged ('podium cat-manifest')")


def _apps(
    pod: PodRef, envelope: envelopes.Envelope | None, runtime: status.Runtime | None, state: str
) -> tuple[tuple[AppInfo, ...], Problem | None]:
    refs: Iterable[envelopes.AppRef] = envelope.apps if envelope else ()
    problem = None
    apps = []
    for ref in refs:
        app = status.AppStatus(ref.name)
        if runtime is not None:
            try:
                app = status.read_app(pod.path, ref.name)
            except Corrupt as e:
                problem = Problem(e.reason, e.message)
        app_state = app.state
        if app_state != "exited" and state != "running":
            app_state = "prepared" if runtime is None else "lost"  # the supervisor was killed before it could tell
        apps.append(
            AppInfo(
                ref.name,
                ref.image,
                ref.image_id,
                app_state,
                app.exit_code,
                app.signal,
                app.process.pid if app.process and app_state == "running" else None,
                app.started,
                app.finished,
                app.restarts,
                app.message,
            )
        )
    return tuple(apps), problem


def wait(context: Context, ref: str, timeout: float | None) -> PodInfo:
    """Wait until the pod has ended.

    Raises:
        TimeoutError: it had not in time.
    """
    from podium.linux import procs
    from podium.pods import lock

    deadline = None if timeout is None else time.monotonic() + timeout
    info = look(context.data, ref)
    while info.state in ("embryo", "preparing", "prepared", "running"):
        left = None if deadline is None else deadline - time.monotonic()
        if left is not None and left <= 0:
            raise TimeoutError(f"pod {info.uuid} is still {info.state}")
        supervisor = info.runtime.supervisor if info.runtime else None
        if info.state == "running" and supervisor is not None and procs.alive(supervisor):
            procs.wait_end(supervisor, left)
            if left is None:
                lock.wait_free(info.path)
        else:
            time.sleep(0.05 if left is None else min(0.05, left))
        try:
            info = look(context.data, info.uuid)
        except NotFound:
            return info  # collected meanwhile: it has ended
    return info


def wait_ready(context: Context, ref: str, timeout: float | None) -> PodInfo:
    """Wait until the pod's apps have been started (or it has ended).

    Raises:
        TimeoutError: they had not been in time.
    """
    deadline = None if timeout is None else time.monotonic() + timeout
    while True:
        info = look(context.data, ref)
        started = info.runtime is not None and info.runtime.started is not None
        if started or info.state not in ("embryo", "preparing", "prepared", "running"):
            return info
        if deadline is not None and time.monotonic() >= deadline:
            raise TimeoutError(f"the apps of pod {info.uuid} have not been started (it is {info.state})")
        time.sleep(0.02)


def app_of(uuid: str, names: Sequence[str], app: str | None) -> str:
    """The app of a pod that was asked for: by its name, or the only one there is.

    Raises:
        BadUsage: there are several and none was named.
        NotFound: none is called so.
    """
    if app is None and len(names) > 1:
        raise BadUsage(f"pod {uuid} has {len(names)} apps", hint=f"choose one with --app: {', '.join(names)}")
    if app is not None and app not in names:
        raise NotFound(f"pod {uuid} has no app {app!r} (apps: {', '.join(names)})", subject=app)
    return app or names[0]
