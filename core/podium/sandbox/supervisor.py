"""The supervisor: the process that holds a pod while it runs.

It starts the apps into the sandbox that the stage1 made, passes signals and streams on, reaps, restarts, writes each
app's status, and leaves nothing behind. It keeps the pod's lock for its whole life; its apps die with it.
"""

from __future__ import annotations

import os
import select
import signal
import time
from collections.abc import Callable
from types import TracebackType

from podium.clock import rfc3339, since_boot
from podium.errors import PodiumError
from podium.events.emitter import Emitter, own_mounts
from podium.linux import cgroup, procs
from podium.linux.signals import FORWARDED
from podium.named import NamedTuple
from podium.paths import RUN, DataDir
from podium.pods import status
from podium.pods.ledger import PodLedger
from podium.sandbox.confine import limits_of, remote
from podium.sandbox.notify import Readiness
from podium.sandbox.process import AppProcess
from podium.sandbox.stdio import Terminal
from podium.trace import trace
from podium.types import NetworkSetup, Pod, RemoteSandbox, Sandbox

TYPE_CHECKING = False
if TYPE_CHECKING:
    from _socket import socket
    from typing import Any

STOP_TIMEOUT = 10.0  # seconds that the other apps have to end once one has failed
_ENDING = frozenset({signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGHUP})
_HEARD = (*FORWARDED, signal.SIGCHLD, signal.SIGWINCH, signal.SIGCONT)


class Options(NamedTuple):
    """How a pod is run (arguments of the worker protocol's `run`).

    Attributes:
        lock: descriptor of the pod's lock.
        stdio: the caller's streams in the foreground; None: detached.
        tty: the app gets a terminal.
        via: how the code was found.
        remove: the pod is to be collected as soon as it has ended.
        hooks: the folder of commands on events.
    """

    lock: int
    stdio: tuple[int, int, int] | None = None
    tty: bool = False
    via: str = "installed"
    remove: bool = False
    hooks: str = ""

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Options:
        """What it does not know is ignored: a newer podium may say more."""
        known = {k: v for k, v in data.items() if k in cls._fields}
        return cls(**{**known, "stdio": tuple(data["stdio"]) if data.get("stdio") else None})


class PodSupervisor:
    """See `podium.types.Supervisor`."""

    def __init__(
        self, pod: Pod, options: Options, notify: Callable[[str, dict[str, Any]], None], caller: socket
    ) -> None:
        self.ledger = PodLedger(pod.dir)
        self._pod = pod
        self._options = options
        self._notify = notify
        self._caller: socket | None = caller if options.stdio else None
        self._mounts = own_mounts()
        self._emitter = Emitter(DataDir(pod.data_root), options.hooks, self._mounts)
        self._apps: list[AppProcess] = []
        self._runtime = status.Runtime()
        self._stopping: float | None = None  # when the apps that still run are killed (monotonic)
        self._terminal: Terminal | None = None
        self._wake = -1
        self._readiness = Readiness("")
        self._cgroup: int | None = None
        self._sandbox_ended: Callable[[], bool] = lambda: False
        self._network: NetworkSetup | None = None
        self._host_mounts = -1
        self._network_group = ""
        self._remote: RemoteSandbox | None = None

    def __enter__(self) -> PodSupervisor:
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
        self._readiness = Readiness(os.environ.get("NOTIFY_SOCKET", "") if self._options.stdio else "")
        self._wake, writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        for number in _HEARD:
            signal.signal(number, lambda *_: None)  # the number comes through the pipe
        trace("run:supervisor")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """A run that failed on the way must leave no process and no cgroup either."""
        self._close_terminal()
        self._readiness.close()
        self._leave_networks()
        self._remove_cgroup()
        if error is not None:
            message = error.message if isinstance(error, PodiumError) else f"{type(error).__name__}: {error}"
            for app in self._apps or [AppProcess(self._pod, a) for a in self._pod.apps]:
                app.abandoned(message)
            self._ended(125)

    def leader(self, process: procs.Process) -> None:
        """Record the process that stands for the pod."""
        self._update(leader=process)

    def facts(self, **facts: Any) -> None:
        """Record what `podium status` shall tell of the run."""
        self._update(facts={**self._runtime.facts, **facts})

    def network(self) -> NetworkSetup | None:
        """Put the pod into its networks; None for `host` and `none`."""
        if self._pod.network.names in (("host",), ("none",)):
            return None  # without the code of networks
        from podium.net import plan

        wanted = plan.read(self._pod.dir)
        if wanted is None:
            return None
        from podium.net.attachment import attach

        # No app's name. What still works there ends with the pod.
        self._network_group = group = f"{self.make_cgroup()}/_network"
        cgroup.create(group, cgroup.tracking())
        self._host_mounts = os.open("/proc/self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
        self._network = made = attach(self._pod, wanted, self.ledger, group)
        found = ({"name": i.network, "ip": a.partition("/")[0]} for i in made.interfaces for a in i.addresses)
        self._update(networks=tuple(found))
        trace("net:recorded")
        return made

    def _leave_networks(self) -> None:
        """In a child, which goes back to the host's mount namespace; what fails there is left to gc."""
        if self._host_mounts < 0:
            return
        # In the pod's cgroup, where gc ends it. Where a forced stop does, it is done again, outside.
        ended = self._detached(self._network_group)
        if os.WIFSIGNALED(ended):
            ended = self._detached(None)
        if ended == 0:
            try:
                self._update(networks=())  # its addresses may be another pod's from now on
            except OSError as e:  # a full disk, say
                print(f"that the pod's addresses are given back can't be recorded: {e}", flush=True)
        os.close(self._host_mounts)
        self._host_mounts = -1
        if self._network is not None:
            os.close(self._network.netns_fd)
            for each in self._network.reserved:
                each.close()
            self._network = None

    def _detached(self, group: str | None) -> int:
        """Let a child run DEL, in this cgroup; returns its wait status."""
        from podium.linux import namespaces
        from podium.net.attachment import detach

        at, parent = cgroup.tracking(), os.getpid()
        pid = cgroup.fork(group, at) if group else os.fork()
        if pid:
            return os.waitpid(pid, 0)[1]
        code = 1
        try:
            signal.set_wakeup_fd(-1)
            procs.die_with_parent(signal.SIGKILL, parent)
            if group:
                cgroup.enter(group, at=at)
            namespaces.setns(self._host_mounts, namespaces.CLONE_NEWNS)
            detach(PodLedger(self._pod.dir))
            code = 0
        except BaseException as e:
            os.write(2, f"the pod's networks are left to gc: {type(e).__name__}: {e}\n".encode())
        finally:
            os._exit(code)

    def run_apps(self, sandbox: Sandbox) -> int:
        """Start every app into `sandbox` and serve them until the pod ends; returns its exit code."""
        trace("run:sandbox")
        self._sandbox_ended = getattr(sandbox, "ended", self._sandbox_ended)
        self.make_cgroup()
        self._remote = remote(sandbox)
        if self._options.tty and self._options.stdio:
            self._terminal = Terminal(self._options.stdio[0], self._options.stdio[1], sandbox.ptmx)
        single = len(self._pod.apps) == 1
        for app in self._pod.apps:
            process = AppProcess(self._pod, app)
            self._apps.append(process)
            if app.notify:
                self._readiness.listen(self._pod, app)
            process.prepare(sandbox, self._options.stdio, self._terminal, single=single)
        trace("run:prepared")
        for process in self._apps:
            process.advance()
            trace(f"run:started:{process.name}")
        self._started()
        if self._terminal is not None:
            self._terminal.raw()
        if all(app.was_started for app in self._apps):
            self._emit()
            self._readiness.started()
            self._notify("started", {"pid": os.getpid()})
            trace("run:started")
        else:
            self._stop()
        self._serve()
        failed = [app.exit_code for app in self._apps_by_end() if app.exit_code]
        return failed[0] if failed else 0

    def finish(self, code: int) -> int:
        """Leave nothing behind and write how the pod ended."""
        trace("run:ended")
        self._close_terminal()
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
        self._emitter.pod(RUN, self._pod.dir, self._pod.uuid)
        self._emitter.wake()

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

    def _close_terminal(self) -> None:
        if self._terminal is not None:
            self._terminal.close()
            self._terminal = None

    def _serve(self) -> None:
        """The loop of the pod's life."""
        keys_open = self._terminal is not None
        while any(app.alive for app in self._apps):
            poll = select.poll()
            poll.register(self._wake, select.POLLIN)
            if self._caller is not None:
                poll.register(self._caller, select.POLLIN)
            pumps = {pump.fileno(): (app, pump) for app in self._apps for pump in app.pumps}
            own = {} if self._remote is None else {pump.fileno(): pump for pump in self._remote.pumps}
            for fd in (*pumps, *own):
                poll.register(fd, select.POLLIN)
            terminal = self._terminal
            if terminal is not None:
                poll.register(terminal.master, select.POLLIN)
                if keys_open and self._options.stdio:
                    poll.register(self._options.stdio[0], select.POLLIN)
            listening = self._readiness.filenos()
            for fd in listening:
                poll.register(fd, select.POLLIN)
            ready = {fd for fd, _ in poll.poll(self._patience())}
            for fd in ready.intersection(listening):
                self._readiness.receive(fd)
            if self._caller is not None and self._caller.fileno() in ready:
                self._caller_gone()
            for fd in ready & own.keys():
                own[fd].pump()
            for fd in ready & pumps.keys():
                app, pump = pumps[fd]
                if not pump.pump():
                    app.pumps.remove(pump)
            if terminal is not None:
                if terminal.master in ready and not terminal.from_app():
                    self._close_terminal()
                elif keys_open and self._options.stdio and self._options.stdio[0] in ready:
                    keys_open = terminal.to_app()
            if self._wake in ready:
                self._signals()
            self._due()

    def _patience(self) -> float | None:
        """Milliseconds until something is due."""
        due = [app.restart_at for app in self._apps if app.restart_at is not None]
        if self._stopping is not None:
            due.append(self._stopping)
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

    def _caller_gone(self) -> None:
        """The foreground's podium ended (it sends nothing while the pod runs): so does the pod."""
        self._caller = None
        self._stop()

    def _signals(self) -> None:
        received = os.read(self._wake, 4096)
        for number in received:
            if number == signal.SIGWINCH and self._terminal is not None:
                self._terminal.resize()
            elif number in FORWARDED:
                ending = number in _ENDING
                for app in self._apps:
                    app.restart_allowed = app.restart_allowed and not ending
                    app.signal(app.stop_signal if number == signal.SIGTERM else number)
        if signal.SIGCHLD in received:
            self._reap()
            if self._sandbox_ended():  # nobody keeps what the apps are in, so they end with it
                for app in self._apps:
                    app.restart_allowed = False
                    app.signal(signal.SIGKILL)

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
