"""One app of a running pod: its steps (pre-start handler, command, post-stop handler), streams, restarts and status."""

from __future__ import annotations

import os
import time

from podium.clock import rfc3339
from podium.contexts import suppress
from podium.errors import PodiumError
from podium.linux import cgroup, procs
from podium.linux.signals import name_of, signal
from podium.pods import status
from podium.sandbox import app as apps
from podium.sandbox import launch as launches
from podium.sandbox.confine import launch_of, limits_of, remote
from podium.sandbox.stdio import AppLog, JournalPump, LogPump, Pump, Terminal, is_journal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Self

    from podium.sandbox.launch import Launch
    from podium.types import App, Pod, Sandbox

_HANDED_ON = (
    *("alive", "was_started", "exit_code", "ended_at", "restart_at", "restart_allowed"),
    *("_next", "_pid", "_started", "_backoff"),
)
_FIRST_BACKOFF, _MAX_BACKOFF, _STABLE = 0.1, 30.0, 10.0  # seconds


class AppProcess:
    """An app as its supervisor sees it.

    Attributes:
        alive: it runs, or waits to be started again.
        was_started: its first step was executed.
        exit_code: of the app, once it has ended.
        ended_at: when it ended (monotonic); infinite while it has not.
        restart_at: when it is to be started again (monotonic), or None.
        restart_allowed: nobody has asked the pod to end.
        pumps: log pumps that have a writer left.
    """

    def __init__(self, pod: Pod, app: App) -> None:
        self.name = app.name
        self.stop_signal = app.stop_signal
        self.alive = True
        self.was_started = False
        self.exit_code: int | None = None
        self.ended_at = float("inf")
        self.restart_at: float | None = None
        self.restart_allowed = True
        self.pumps: list[Pump] = []
        self._pod = pod
        self._app = app
        self._steps = [
            step for step in (("pre-start", app.pre_start), ("app", app.exec), ("post-stop", app.post_stop)) if step[1]
        ]
        self._next = 0
        self._pid = 0
        self._lost = False
        self._started = 0.0
        self._backoff = _FIRST_BACKOFF
        self._status = status.AppStatus(app.name)

    def look_up(self, sandbox: Sandbox) -> None:
        """Look everything up, in a sandbox that may still be unfinished, and make the app's cgroup.

        Raises:
            PodiumError: the image lacks the user, a limit can't be had …
        """
        self._remote = remote(sandbox)
        self._launch: Launch = launch_of(self._pod, self._app, sandbox)
        launches.write(self._pod.stage1_dir, self.name, self._launch)
        cgroup.create(self._launch.cgroup)
        limits = None if self._remote else limits_of(self._app.isolators, self._pod.dir)
        if limits is not None:
            cgroup.apply(self._launch.cgroup, limits)
        os.makedirs(os.path.join(self._pod.dir, status.FOLDER), mode=0o700, exist_ok=True)

    def connect(
        self, sandbox: Sandbox, stdio: tuple[int, int, int] | None, terminal: Terminal | None, *, single: bool
    ) -> None:
        """Make the app's streams, and take what it joins of the sandbox."""
        self._namespaces = sandbox.namespaces
        self._terminal = terminal
        if terminal is not None:
            self._launch = self._launch.at_terminal()
        self._stdio = self._streams(stdio, single)

    def _streams(self, stdio: tuple[int, int, int] | None, single: bool) -> tuple[int, int, int]:
        if self._terminal is not None:
            return (self._terminal.app_end,) * 3
        log = AppLog(self._pod.dir, self.name)
        null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        chosen = []
        for number, mode in enumerate((self._app.stdin, self._app.stdout, self._app.stderr)):
            if mode == "auto":
                mode = "inherit" if stdio and (single or number) else "null" if number == 0 else "log"
            if mode == "inherit" and stdio is None:
                mode = "log" if number else "null"
            if mode == "inherit" and stdio is not None and number and is_journal(stdio[number]):
                self.pumps.append(JournalPump(stdio[number]))
                chosen.append(self.pumps[-1].app_end)
            elif mode == "inherit" and stdio is not None:
                chosen.append(stdio[number])
            elif mode == "log" and number:
                pump = LogPump(log, ("stdin", "stdout", "stderr")[number])
                self.pumps.append(pump)
                chosen.append(pump.app_end)
            else:
                chosen.append(null)
        return chosen[0], chosen[1], chosen[2]

    def advance(self) -> None:
        """Start the next step. A command that can't be started ends the app with 126, 127 or 125."""
        self.restart_at = None
        _, argv = self._steps[self._next]
        try:
            launch, terminal = self._launch._replace(argv=argv), self._terminal is not None
            if self._remote is not None:
                self._pid = self._remote.start(self._app, launch, self._stdio, terminal=terminal)
            else:
                self._pid = apps.start(launch, self._namespaces, self._stdio, terminal=terminal)
        except PodiumError as e:
            self._ended(e.exit_code if e.exit_code in (126, 127) else 125, None, e.message)
            return
        self.was_started = True
        self._started = time.monotonic()
        self._status = self._status._replace(
            state="running",
            process=procs.identify(self._pid),
            started=self._status.started or rfc3339(),
        )
        self._record()

    def handed_on(self, keep: Callable[[int], int]) -> dict[str, Any]:
        """What `taken_over` needs in the process that this one becomes; the pumps are handed on by who waits."""
        return {
            "launch": self._launch.to_json(),
            "status": self._status.to_json(),
            "stdio": [keep(fd) if self.alive else fd for fd in self._stdio],  # those of one that has ended are closed
            "values": {name: getattr(self, name) for name in _HANDED_ON},
        }

    @classmethod
    def taken_over(
        cls,
        pod: Pod,
        app: App,
        record: dict[str, Any],
        sandbox: Sandbox,
        terminal: Terminal | None,
        pumps: list[Pump],
    ) -> Self:
        """The app that `handed_on` told of."""
        made = cls(pod, app)
        made._namespaces, made._remote = sandbox.namespaces, remote(sandbox)
        made._launch = launches.Launch.from_json(record["launch"])
        made._status = status.AppStatus.from_json(app.name, record["status"])
        stdin, stdout, stderr = record["stdio"]
        made._stdio, made._terminal, made.pumps = (stdin, stdout, stderr), terminal, pumps
        for name in _HANDED_ON:
            setattr(made, name, record["values"][name])
        return made

    def signal(self, number: int) -> None:
        """Send a signal to the app's process, or forget a restart that is due."""
        if self._pid:
            # Ours and not yet waited for, so the number can't have been used again.
            os.kill(self._pid, number)
        elif self.alive and self.restart_at is not None and not self.restart_allowed:
            self._ended(self.exit_code or 0, None, None)

    def sandbox_ended(self) -> None:
        """What the app is in has ended, and the app with it: how, nobody knows where a process only stands for it."""
        self.restart_allowed = False
        self._lost = self._remote is not None
        self.signal(signal.SIGKILL)

    def reap(self) -> bool:
        """Take the end of the current step in; False if it runs on."""
        if not self._pid:
            return False
        pid, wait_status = os.waitpid(self._pid, os.WNOHANG)
        if pid == 0:
            return False
        self._pid = 0
        code = os.waitstatus_to_exitcode(wait_status)
        if self._lost and code == -signal.SIGKILL:
            code = 125
        name = name_of(-code) if code < 0 else None
        self._step_ended(128 - code if code < 0 else code, name)
        return True

    def _step_ended(self, code: int, signal_name: str | None) -> None:
        step = self._steps[self._next][0]
        if step == "pre-start" and code == 0:
            self._next += 1
            self.advance()
            return
        if step == "post-stop":
            self._ended(self.exit_code or 0, self._status.signal, self._status.message)
            return
        message = f"its pre-start handler failed with {code}" if step == "pre-start" else None
        limited = self._launch.cgroup if self._pod.isolators.memory_limit is None else self._pod.cgroup
        if signal_name == "SIGKILL" and cgroup.oom_killed(limited):
            message = "killed: it used more memory than its limit allows"
        if self._remote is not None:
            message = message or self._remote.failure(self._app)
            self._remote.end(self._app)
        cgroup.kill(self._launch.cgroup)  # what the app's first process left running
        self.exit_code = code
        self._status = self._status._replace(exit_code=code, signal=signal_name, message=message)
        policy = self._app.restart
        if self.restart_allowed and (policy == "always" or (policy == "on-failure" and code)):
            self._restart_later()
        elif step == "app" and self._steps[-1][0] == "post-stop":
            self._next = len(self._steps) - 1
            self.advance()
        else:
            self._ended(code, signal_name, message)

    def _restart_later(self) -> None:
        if time.monotonic() - self._started > _STABLE:
            self._backoff = _FIRST_BACKOFF
        self.restart_at = time.monotonic() + self._backoff
        self._backoff = min(2 * self._backoff, _MAX_BACKOFF)
        self._next = 0
        self._status = self._status._replace(state="waiting", process=None, restarts=self._status.restarts + 1)
        self._record()

    def _ended(self, code: int, signal_name: str | None, message: str | None) -> None:
        self.alive, self.exit_code, self.restart_at = False, code, None
        self.ended_at = time.monotonic()
        for pump in self.pumps:
            pump.started()
            pump.drain()
            pump.close()
        self.pumps.clear()
        self._status = self._status._replace(
            state="exited", process=None, exit_code=code, signal=signal_name, finished=rfc3339(), message=message
        )
        self._record()

    def _record(self) -> None:
        """Write the status; a full disk, or a file that somebody damaged, is no reason to end an app."""
        try:
            status.write_app(self._pod.dir, self._status)
        except OSError as e:
            print(f"the status of {self.name} can't be written: {e}", flush=True)

    def abandoned(self, why: str, by: int = 0) -> None:
        """The run ended around the app: one that had not ended ends with 125, or as if by the signal that is given."""
        if self.alive:
            with suppress(OSError):
                os.makedirs(os.path.join(self._pod.dir, status.FOLDER), mode=0o700, exist_ok=True)
            self._ended(128 + by if by else 125, name_of(by) if by else None, why)
