"""The supervisor: the process that holds a pod while it runs.

It starts the apps into the sandbox that the stage1 made, passes signals and streams on, reaps, restarts, writes each
app's status, and leaves nothing behind. It keeps the pod's lock for its whole life; its apps die with it.
"""

from __future__ import annotations

import os
import sys
import time
from types import TracebackType

from podium.clock import rfc3339, since_boot
from podium.errors import Failed, PodiumError, Stopped
from podium.linux import cgroup, procs
from podium.linux.namespaces import own_mounts
from podium.linux.signals import FORWARDED, signal
from podium.paths import RUN, DataDir
from podium.pods import status
from podium.pods.ledger import PodLedger
from podium.sandbox.confine import lasting, lasting_remote, limits_of, remote, unfinished
from podium.sandbox.handover import Handover, Options
from podium.sandbox.networks import Networks
from podium.sandbox.notify import Readiness
from podium.sandbox.waiting import Waiting, hear
from podium.trace import trace
from podium.types import NetworkSetup, Pod, Sandbox

TYPE_CHECKING = False
if TYPE_CHECKING:
    from _socket import socket
    from collections.abc import Callable
    from typing import Any, Self

    from podium.sandbox.process import AppProcess

# What only started apps need: it is imported while an unfinished sandbox is being made.
FOR_APPS = ("podium.sandbox.process", "podium.events.emitter", "podium.events.consumers")
NEVER_STARTED = "it was stopped before it was started"
STOP_TIMEOUT = 10.0  # seconds that the other apps have to end once one has failed
REST_AFTER = 1.5  # seconds without anything to decide; a short pod never pays for it
_ENDING = frozenset({signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGHUP})


class PodSupervisor:
    """See `podium.types.Supervisor`."""

    def __init__(
        self,
        pod: Pod,
        options: Options,
        notify: Callable[[str, dict[str, Any]], None],
        caller: socket,
        rest: Callable[[Handover], None] | None = None,
        *,
        ledger: PodLedger | None = None,
        mounts: int = -1,
    ) -> None:
        self.ledger = ledger or PodLedger(pod.dir)
        self._pod = pod
        self._options = options
        self._notify = notify
        self._caller = caller
        self._mounts = own_mounts() if mounts < 0 else mounts
        self._apps: list[AppProcess] = []
        self._waiting: Waiting
        self._sandbox: Sandbox | None = None
        self._runtime = status.Runtime()
        self._stopping: float | None = None  # when the apps that still run are killed (monotonic)
        self._cgroup: int | None = None
        self._networks = Networks()
        self._sandbox_ended: Callable[[], bool] = lambda: False
        self._early = b""  # signals that came while the sandbox was made
        self._rest = rest  # becomes the small process that waits; returns where that can't be
        self._decided = 0.0  # when there was last something to decide (monotonic)

    def __enter__(self) -> PodSupervisor:
        if self._apps:
            return self  # taken over: it has begun already
        for fd in (self._options.lock, *(self._options.stdio or ())):
            os.set_inheritable(fd, False)  # no app may hold the pod's lock
        me = procs.identify(os.getpid())
        self._update(
            supervisor=me,
            cgroup=self._pod.cgroup,
            detached=self._options.stdio is None,
            via=self._options.via,
            remove=self._options.remove,
        )
        foreground = self._options.stdio is not None
        readiness = Readiness(os.environ.get("NOTIFY_SOCKET", "") if foreground else "")
        self._waiting = Waiting(hear(), self._caller.fileno() if foreground else -1, readiness)
        trace("run:supervisor")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """A run that failed on the way must leave no process and no cgroup either."""
        self._waiting.close_terminal()
        self._waiting.readiness.close()
        self._leave_networks()
        self._remove_cgroup()
        if error is not None:
            message = error.message if isinstance(error, PodiumError) else f"{type(error).__name__}: {error}"
            for app in self._apps or self._not_started():
                app.abandoned(message)
            self._ended(125)

    def leader(self, process: procs.Process) -> None:
        """Record the process that stands for the pod."""
        self._update(leader=process)

    def facts(self, **facts: Any) -> None:
        """Record what `podium status` shall tell of the run."""
        self._update(facts={**self._runtime.facts, **facts})

    def heed_stop(self) -> None:
        """See `podium.types.Supervisor`; what has come and does not end the pod is for the apps once they are there."""
        received, gone = self._waiting.wait(0)
        self._early += received
        ending = [number for number in received if number in _ENDING]
        if gone or ending:
            number = ending[0] if ending else signal.SIGTERM
            raise Stopped(NEVER_STARTED, subject=self._pod.uuid, number=number)

    def was_ended_by_force(self) -> bool:
        """Whether a stop that was asked for, and killed what there was, is why no app could be started."""
        from podium.events.emitter import STOPPING

        asked = os.path.lexists(os.path.join(self._pod.dir, STOPPING))
        return asked and not any(app.was_started for app in self._apps)

    def never_started(self, stopped: Stopped) -> int:
        """Take in that the pod has ended before any app was started; returns its exit code."""
        for app in self._not_started():
            app.abandoned(stopped.message, stopped.number)
        return 128 + stopped.number

    def _not_started(self) -> list[AppProcess]:
        from podium.sandbox.process import AppProcess

        return [AppProcess(self._pod, app) for app in self._pod.apps]

    def ready(self, app: str) -> None:
        """An app of a remote sandbox that was asked to has said that it is ready."""
        self._waiting.readiness.ready(app)

    def network(self) -> NetworkSetup | None:
        """Put the pod into its networks; None for `host` and `none`."""
        if self._pod.network.names in (("host",), ("none",)):
            return None  # without the code of networks
        from podium.net import plan

        wanted = plan.read(self._pod.dir)
        if wanted is None:
            return None
        group = f"{self.make_cgroup()}/_network"  # no app's name; what still works there ends with the pod
        made = self._networks.attach(self._pod, wanted, self.ledger, group)
        found = ({"name": i.network, "ip": a.partition("/")[0]} for i in made.interfaces for a in i.addresses)
        self._update(networks=tuple(found))
        trace("net:recorded")
        return made

    def _leave_networks(self) -> None:
        if self._networks.leave(self._pod):
            try:
                self._update(networks=())  # its addresses may be another pod's from now on
            except OSError as e:  # a full disk, say
                print(f"that the pod's addresses are given back can't be recorded: {e}", flush=True)

    def run_apps(self, sandbox: Sandbox) -> int:
        """Start every app into `sandbox` and serve them until the pod ends; returns its exit code."""
        trace("run:sandbox")
        self._serves(sandbox)
        self.make_cgroup()
        waiting = self._waiting
        for module in FOR_APPS:
            __import__(module)
        self._apps += self._not_started()
        for app, process in zip(self._pod.apps, self._apps, strict=True):
            if app.notify and waiting.remote is not None:
                waiting.readiness.expect(app.name)
            elif app.notify:
                waiting.readiness.listen(self._pod, app)
            process.look_up(sandbox)
        made = unfinished(sandbox)
        if made is not None:
            self.leader(made.finish())
        if self._options.tty and self._options.stdio:
            from podium.sandbox.stdio import Terminal

            waiting.terminal = Terminal(self._options.stdio[0], self._options.stdio[1], sandbox.ptmx)
        for process in self._apps:
            process.connect(sandbox, self._options.stdio, waiting.terminal, single=len(self._apps) == 1)
        waiting.pumps = [app.pumps for app in self._apps]
        trace("run:prepared")
        for process in self._apps:
            process.advance()
            trace(f"run:started:{process.name}")
        self._started()
        if waiting.terminal is not None:
            waiting.terminal.raw()
        if all(app.was_started for app in self._apps):
            self._emit()
            waiting.readiness.started()
            self._notify("started", {"pid": os.getpid()})
            trace("run:started")
        else:
            self._stop()
        return self._serve(self._early)

    def _serves(self, sandbox: Sandbox) -> None:
        self._sandbox = sandbox
        self._sandbox_ended = getattr(sandbox, "ended", self._sandbox_ended)
        self._waiting.serve(remote(sandbox))

    def _exit_code(self) -> int:
        """The first failing app's."""
        failed = [app.exit_code for app in self._apps_by_end() if app.exit_code]
        return failed[0] if failed else 0

    def finish(self, code: int) -> int:
        """Leave nothing behind and write how the pod ended."""
        trace("run:ended")
        self._waiting.close_terminal()
        self._leave_networks()
        self._remove_cgroup()
        self._ended(code)
        trace("run:finished")
        return code

    def step_back(self) -> bool:
        """Once the pod has ended: be no more than a worker, among the host's mounts and without the pod's lock.

        Returns:
            Whether that could be. It can't with threads that a plugin has left.
        """
        from podium.linux import namespaces

        try:
            namespaces.setns(self._mounts, namespaces.CLONE_NEWNS)
        except OSError as e:
            print(f"the supervisor can't be used any more: {e}", flush=True)
            return False
        os.chdir("/")
        os.close(self._options.lock)
        trace("run:stepped-back")
        return True

    def _apps_by_end(self) -> list[AppProcess]:
        return sorted(self._apps, key=lambda app: app.ended_at)

    def _update(self, **changes: Any) -> None:
        self._runtime = self._runtime._replace(**changes)
        status.write_runtime(self._pod.dir, self._runtime)

    def _started(self) -> None:
        try:
            self._update(started=rfc3339())
        except OSError as e:
            print(f"the start of the pod can't be recorded: {e}", flush=True)

    def _ended(self, code: int) -> None:
        try:
            self._update(finished=rfc3339(), finished_boottime=since_boot(), boot=procs.boot_id(), exit_code=code)
        except OSError as e:
            print(f"the end of the pod can't be recorded: {e}", flush=True)
        self._emit()

    def _emit(self) -> None:
        from podium.events.emitter import Emitter

        emitter = Emitter(DataDir(self._pod.data_root), self._options.hooks, self._mounts)
        emitter.pod(RUN, self._pod.dir, self._pod.uuid)
        emitter.wake()

    def make_cgroup(self) -> str:
        """Make the pod's cgroup, if it is not there yet; returns its path below every hierarchy."""
        if self._cgroup is None:
            self._cgroup = self.ledger.intend("cgroup", self._pod.cgroup)
            trace("run:cgroup-intended")
            cgroup.create(self._pod.cgroup)
            self.ledger.held(self._cgroup)
            trace("run:cgroup")
            limits = limits_of(self._pod.isolators, self._pod.dir)
            if limits is not None:
                cgroup.apply(self._pod.cgroup, limits)
        return self._pod.cgroup

    def _remove_cgroup(self) -> None:
        if self._cgroup is not None:
            cgroup.kill(self._pod.cgroup)
            self._reap()
            cgroup.remove(self._pod.cgroup)
            number, self._cgroup = self._cgroup, None
            try:
                self.ledger.released(number, "stage1")
            except OSError as e:  # a full disk, say: gc will look for the cgroup and find none
                print(f"the ledger can't be written: {e}", flush=True)

    def _serve(self, received: bytes = b"", gone: bool = False) -> int:
        """The loop of the pod's life; returns its exit code.

        Args:
            received: signals that came before.
            gone: our caller went before.
        """
        self._decided = time.monotonic()
        while any(app.alive for app in self._apps):
            if gone:
                self._caller_gone()
            if received:
                self._heed(received)
            if gone or received:
                self._decided = time.monotonic()
            self._due()
            if any(app.alive for app in self._apps):
                received, gone = self._waiting.wait(self._patience())
        return self._exit_code()

    def _patience(self) -> float | None:
        """Milliseconds until something is due."""
        due = [app.restart_at for app in self._apps if app.restart_at is not None]
        if self._stopping is not None:
            due.append(self._stopping)
        if not due and self._rest is not None:
            due.append(self._decided + REST_AFTER)
        return max(0.0, (min(due) - time.monotonic()) * 1000) if due else None

    def _due(self) -> None:
        now = time.monotonic()
        if self._stopping is not None and now >= self._stopping:
            self._stopping = None
            for app in self._apps:
                app.signal(signal.SIGKILL)
        for app in self._apps:
            if app.restart_at is not None and now >= app.restart_at:
                app.advance()
                self._decided = now
        if self._rest is not None and now >= self._decided + REST_AFTER:
            self._go_to_rest(self._rest)

    def _go_to_rest(self, rest: Callable[[Handover], None]) -> None:
        """Become the small process that waits, unless something is about to happen. Where that can't be, stay."""
        if self._stopping is not None or any(app.restart_at is not None for app in self._apps):
            return
        try:
            handover = self._handed_on()
            if handover is not None:
                rest(handover)
                self._decided = time.monotonic()  # something has come meanwhile
                return
        except Exception as e:
            print(f"the supervisor stays as large as it is: {type(e).__name__}: {e}", flush=True)
        self._rest = None

    def _handed_on(self) -> Handover | None:
        """What `taken_over` needs in the process that this one becomes; None: the sandbox can't be handed on."""
        sandbox = lasting(self._sandbox)
        if sandbox is None:
            return None
        fds: list[int] = []

        def keep(fd: int) -> int:
            if fd >= 0:
                fds.append(fd)
            return fd

        supervisor = {
            "options": {**self._options._asdict(), "lock": keep(self._options.lock)},
            "runtime": self._runtime.to_json(),
            "cgroup": self._cgroup,
            "networks": self._networks.handed_on(keep),
            "mounts": keep(self._mounts),
            "apps": [app.handed_on(keep) for app in self._apps],
        }
        kind = type(sandbox)
        if getattr(sys.modules[kind.__module__], kind.__qualname__, None) is not kind:
            raise Failed(f"{kind.__module__} has no class {kind.__qualname__!r} for who goes on")
        made = {"class": [kind.__module__, kind.__qualname__], "record": sandbox.handed_on(keep)}
        keep(self._caller.fileno())
        return Handover(self._waiting.handed_on(keep), supervisor, made, fds, self._waiting.signalled)

    @classmethod
    def taken_over(
        cls,
        pod: Pod,
        record: dict[str, Any],
        sandbox: Sandbox,
        waiting: Waiting,
        caller: socket,
        rest: Callable[[Handover], None],
    ) -> Self:
        """The supervisor that `Handover.supervisor` tells of; its `go_on` comes in place of `run_apps`."""
        from podium.sandbox.process import AppProcess

        options, ledger = Options.from_json(record["options"]), PodLedger(pod.dir, read=False)
        made = cls(pod, options, lambda *_: None, caller, rest, ledger=ledger, mounts=record["mounts"])
        made._runtime = status.Runtime.from_json(record["runtime"])
        made._cgroup = record["cgroup"]
        made._networks = Networks.taken_over(record["networks"])
        made._waiting = waiting
        again = lasting_remote(sandbox)
        if again is not None:
            again.served_by(made, waiting.of_remote)
        made._serves(sandbox)
        for app, of_app, pumps in zip(pod.apps, record["apps"], waiting.pumps, strict=True):
            made._apps.append(AppProcess.taken_over(pod, app, of_app, sandbox, waiting.terminal, pumps))
        return made

    def go_on(self, received: bytes, gone: bool) -> int:
        """Serve the apps that were handed on, as `run_apps` does; what has come is as `Waiting.wait` has it."""
        return self._serve(received, gone)

    def _caller_gone(self) -> None:
        """The foreground's podium ended (it sends nothing while the pod runs): so does the pod."""
        self._waiting.caller = -1
        self._stop()

    def _heed(self, received: bytes) -> None:
        for number in received:
            if number in FORWARDED:
                ending = number in _ENDING
                for app in self._apps:
                    app.restart_allowed = app.restart_allowed and not ending
                    app.signal(app.stop_signal if number == signal.SIGTERM else number)
        if signal.SIGCHLD in received:
            self._reap()
            if self._sandbox_ended():  # nobody keeps what the apps are in, so they end with it
                for app in self._apps:
                    app.sandbox_ended()

    def _reap(self) -> None:
        for app in self._apps:
            before = app.alive
            if not app.reap():
                continue
            if before and not app.alive and app.exit_code:
                self._stop()  # one has failed, so the pod ends
            if any(each.alive for each in self._apps):
                self._emit()  # else it is told of with the pod's own end, which comes at once

    def _stop(self) -> None:
        """Ask what still runs to end, last started first."""
        for app in reversed(self._apps):
            app.restart_allowed = False
            app.signal(app.stop_signal)
        if self._stopping is None:
            self._stopping = time.monotonic() + STOP_TIMEOUT
