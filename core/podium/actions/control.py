"""stop, kill, enter, rm: what is done to a pod through the exact code that prepared it."""

from __future__ import annotations

import os
import sys
import time

from podium.actions import observe
from podium.actions.context import Context
from podium.actions.foreground import signals_forwarded, streams
from podium.actions.observe import PodInfo
from podium.errors import (
    BadUsage,
    CapabilityUnsupported,
    Corrupt,
    Failed,
    NewerFormat,
    PluginRefused,
    PodiumError,
    WrongState,
)
from podium.events.emitter import stopping
from podium.linux.signals import signal
from podium.paths import DEFAULT_CGROUP
from podium.pods import envelope as envelopes
from podium.pods import lifecycle, status
from podium.stage1.dispatch import Dispatcher
from podium.trace import trace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from podium.linux.procs import Process

_HELD = 2.0  # seconds that another command may have an ended pod to itself
_END_TOGETHER = 0.5  # seconds between the kernel's ends of a command and of the app beside which it ran


def _running(context: Context, ref: str) -> PodInfo:
    info = observe.look(context.data, ref)
    if info.state != "running":
        raise WrongState(f"pod {info.uuid} does not run: it is {info.state}", subject=info.uuid)
    return info


def stop(context: Context, ref: str, timeout: float, force: bool) -> None:
    """End a pod. One that has ended is no error; one that was never run is.

    Raises:
        WrongState: it is not running, nor has it ended.
        PodiumError: of the plugin.
    """
    info = observe.look(context.data, ref)
    if info.state in ("exited", "exited-garbage", "garbage", "deleting", "gc-failed"):
        return
    if info.state != "running":
        making = info.state in ("embryo", "preparing")
        raise WrongState(
            f"pod {info.uuid} does not run: it is {info.state}",
            hint="try again in a moment" if making else "'podium rm' removes it",
            subject=info.uuid,
        )
    stopping(info.path)
    _stop_hook(context, info, timeout=timeout, force=force)
    try:
        observe.wait(context, info.uuid, max(timeout, 5.0))
    except TimeoutError:
        left = observe.look(context.data, info.uuid)
        if left.problem is None or left.problem.reason != "held":
            raise
        raise Failed(left.problem.message, hint="end that process, or wait for its end", subject=info.uuid) from None


def kill(context: Context, ref: str, number: int, app: str | None) -> None:
    """Send a signal to the first process of every app, or of one.

    Raises:
        NotFound: no such app.
        WrongState: the pod does not run, or that app.
    """
    info = _running(context, ref)
    if app is None:
        _stop_hook(context, info, signal=number)
        return
    _stop_hook(context, info, signal=number, app=observe.app_of(info.uuid, [a.name for a in info.apps], app))


def _stop_hook(context: Context, info: PodInfo, **request: Any) -> None:
    """Call the pod's own plugin; where it can't be had, end the pod by what every podium knows of it."""
    try:
        envelope = envelopes.read(info.path)
        envelope.features.require(f"pod {info.uuid}", envelope.prepared_by, full=False)
        with Dispatcher(context.data, context.config) as dispatcher:
            worker = dispatcher.worker(dispatcher.require(envelope))
            if "app" in request and "app" not in worker.info.get("stop", ()):
                raise CapabilityUnsupported(
                    f"pod {info.uuid} was prepared by podium {envelope.prepared_by}, which can't signal one app alone",
                    hint="without --app, all of its apps get the signal",
                    subject=info.uuid,
                )
            timeout = context.config.get("stage1", "stop-timeout")
            worker.call("stop", info.path, timeout + request.get("timeout", 0.0), request)
    except (PluginRefused, Corrupt, FileNotFoundError):
        if request.get("signal") is not None:
            raise
        _stop_without_plugin(context, info)


def _stop_without_plugin(context: Context, info: PodInfo) -> None:
    from podium.linux import cgroup, procs

    try:
        runtime = status.read_runtime(info.path)
    except Corrupt:
        runtime = None
    if runtime is not None and runtime.supervisor is not None:
        procs.signal_process(runtime.supervisor, signal.SIGTERM)
        procs.wait_end(runtime.supervisor, 10.0)
    usual = {f"{context.config.get('cgroup', 'parent')}/{info.uuid}", f"{DEFAULT_CGROUP}/{info.uuid}"}
    for path in {runtime.cgroup} if runtime and runtime.cgroup else usual:
        if not cgroup.kill(path):
            raise Failed(f"processes of pod {info.uuid} survive SIGKILL", subject=info.uuid)


def enter(context: Context, ref: str, app: str | None, command: Sequence[str], tty: bool) -> int:
    """Run a command in a running pod, beside an app and restricted as it is; returns its exit code.

    A command that was killed because the app has ended has 137, and a line on standard error says so.

    Raises:
        NotFound: no such app.
        BadUsage: the pod has several apps and none was named.
        WrongState: the pod does not run, or the app has ended before the command could be started.
    """
    info = _running(context, ref)
    app = observe.app_of(info.uuid, [a.name for a in info.apps], app)
    if tty and not os.isatty(0):
        raise BadUsage("--tty needs a terminal on standard input")
    trace("enter:running")
    try:
        return _enter(context, info, app, command, tty)
    except (PodiumError, FileNotFoundError) as e:
        if os.path.exists(info.path):
            raise
        raise WrongState(f"pod {info.uuid} has ended", subject=info.uuid) from e


def _enter(context: Context, info: PodInfo, app: str, command: Sequence[str], tty: bool) -> int:
    envelope = envelopes.read(info.path)
    envelope.features.require(f"pod {info.uuid}", envelope.prepared_by, full=True)
    with streams() as stdio, Dispatcher(context.data, context.config) as dispatcher:
        worker = dispatcher.new_worker(dispatcher.require(envelope), keep=stdio)
    request = {"app": app, "command": list(command), "tty": tty, "stdio": list(stdio)}
    beside = status.read_app(info.path, app).process
    trace("enter:looked")
    try:
        with signals_forwarded(worker):
            code = int(worker.call("enter", info.path, None, request))
    except PodiumError as e:  # it may have missed what went away under its hands
        if e.exit_code in (126, 127) or not _ended(beside):
            raise
        raise WrongState(
            f"app {app!r} of pod {info.uuid} has ended", hint="see 'podium status'", subject=info.uuid
        ) from e
    finally:
        worker.close()
    if code == 128 + signal.SIGKILL and _ended(beside):
        print(f"podium: the command was killed, since app {app!r} of pod {info.uuid} has ended", file=sys.stderr)
    return code


def _ended(app: Process | None) -> bool:
    """Whether an app has ended, or does at this moment."""
    from podium.linux import procs

    return app is not None and procs.wait_end(app, _END_TOGETHER)


def remove(context: Context, ref: str, force: bool) -> None:
    """Collect one pod now.

    Args:
        context: where.
        ref: the pod.
        force: stop it first, if it runs.

    Raises:
        WrongState: it runs, or is being prepared.
        Failed: something of it could not be released; it is kept as gc-failed.
    """
    from podium.gc.collector import collect

    info = observe.look(context.data, ref)
    if lifecycle.is_odd(info.path):
        os.unlink(info.path)  # a file by a pod's name
        return
    deadline = time.monotonic() + _HELD
    while info.state == "running" and info.problem is not None and time.monotonic() < deadline:
        time.sleep(0.02)  # its supervisor has ended: somebody who collects holds it for a moment
        info = observe.look(context.data, info.uuid)
    if info.state == "running":
        if not force:
            raise WrongState(
                f"pod {info.uuid} is running", hint=f"'podium stop {info.uuid}' first, or --force", subject=info.uuid
            )
        stopping(info.path)
        _stop_hook(context, info, timeout=10.0, force=True)
        try:
            observe.wait(context, info.uuid, 10.0)
        except PodiumError:
            pass  # gone already
    elif info.state == "preparing":
        raise WrongState(f"pod {info.uuid} is being prepared", hint="try again in a moment", subject=info.uuid)
    report = collect(context.data, context.config, grace_period=0.0, expire_prepared=0.0, only=info.uuid)
    for failure in report.failed:
        if failure.reason == NewerFormat.reason:
            raise NewerFormat(failure.message, subject=info.uuid)
        raise Failed(
            f"pod {info.uuid} could not be removed: {failure.message}",
            hint="it stays as gc-failed; mend the cause and try again",
            subject=info.uuid,
        )
