"""run: hand a prepared pod to its supervisor, and in the foreground wait for it."""

from __future__ import annotations

import os
import sys

from podium.actions.context import Context
from podium.actions.foreground import signals_forwarded, streams
from podium.actions.prepare import prepare
from podium.contexts import contextmanager, nullcontext
from podium.errors import Corrupt, InUse, NotFound, PluginFailed, WrongState
from podium.paths import PREPARED, RUN
from podium.pods import envelope as envelopes
from podium.pods import lifecycle
from podium.pods.lifecycle import PodRef
from podium.pods.request import PodRequest, RunOptions, RunResult
from podium.stage1.client import Worker
from podium.trace import trace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

_VIA = {"pin": "the code in its pin", "compatible": "an installed plugin that says it is compatible"}
_FOR_THE_END = ("podium.pods.status",)
_FOR_GC = (
    "datetime",  # reads when the pod has ended
    "podium.events.consumers",
    "podium.gc.collector",
    "podium.gc.reclaim.link",
    "podium.gc.sweeping",
    "podium.linux.loop",
    "podium.linux.mount",
)
START_TIMEOUT = 300.0  # seconds that a detached pod may take until its apps have been started


def run(context: Context, request: PodRequest, how: RunOptions) -> RunResult:
    """Prepare a pod and run it with the same worker.

    Raises:
        PodiumError: of prepare, or around the apps.
    """
    how.check(max(1, len(request.apps)))
    with nullcontext() if how.detach else streams() as stdio:
        pod, fd, worker = prepare(context, request, keep=stdio or (), to_run=True)
        return _start(context, pod, fd, worker, "installed", stdio, how)


def run_prepared(context: Context, ref: str, how: RunOptions) -> RunResult:
    """Run a pod that was prepared before, by exactly the code that prepared it.

    Raises:
        WrongState: it is not prepared.
        InUse: somebody else is running it.
        PluginRefused: the code is not to be had.
    """
    pod = lifecycle.find(context.data, ref)
    locked = lifecycle.lock_pod(context.data, pod)
    if locked is None:
        raise NotFound(f"pod {pod.uuid} is gone", subject=pod.uuid)
    pod, fd = locked
    if pod.phase != PREPARED:
        if fd is not None:
            os.close(fd)  # with our lock it would seem to run
        from podium.actions import observe

        raise WrongState(
            f"pod {pod.uuid} is not prepared but {observe.look(context.data, pod.uuid).state}",
            hint="a pod runs once; 'podium run' makes a new one",
            subject=pod.uuid,
        )
    if fd is None:
        raise InUse(f"pod {pod.uuid} is being worked on by another process", subject=pod.uuid)
    try:
        envelope = envelopes.read(pod.path)
        envelope.features.require(f"pod {pod.uuid}", envelope.prepared_by, full=True)
        how.check(len(envelope.apps))
        with nullcontext() if how.detach else streams() as stdio:
            from podium.stage1.dispatch import Dispatcher
            from podium.store import usage

            with Dispatcher(context.data, context.config) as dispatcher:
                choice = dispatcher.require(envelope)
                if choice.why_not:
                    reasons = "; ".join(choice.why_not)
                    print(f"podium: pod {pod.uuid} runs with {_VIA[choice.via]}: {reasons}", file=sys.stderr)
                worker = dispatcher.new_worker(choice, keep=(fd, *(stdio or ())), to_run=True)
            for image in envelope.images:
                usage.note(context.data, image.removeprefix("sha256:"))
            taken, fd = fd, -1
            return _start(context, pod, taken, worker, choice.via, stdio, how)
    finally:
        if fd >= 0:
            os.close(fd)


def _start(
    context: Context,
    pod: PodRef,
    fd: int,
    worker: Worker,
    via: str,
    stdio: tuple[int, int, int] | None,
    how: RunOptions,
) -> RunResult:
    """From prepared to run; from here on the worker is the pod's supervisor and holds its lock."""
    try:
        if how.uuid_file:
            with open(how.uuid_file, "w", encoding="ascii") as f:
                f.write(pod.uuid + "\n")
        pod = lifecycle.move(context.data, pod, RUN)
        trace("run:moved")
        args: dict[str, Any] = {
            "lock": fd,
            "stdio": stdio and list(stdio),
            "tty": how.tty,
            "via": via,
            "remove": how.remove,
            "hooks": context.config.get("hooks", "dir"),
            "settings": context.config.of_stage1(worker.info["name"]),
        }
        number = worker.begin("run", pod.path, args)
    except BaseException:
        worker.close()
        raise
    finally:
        os.close(fd)
    if how.detach:
        try:
            code = worker.result(number, "run", START_TIMEOUT, until="started")
        finally:
            worker.leave()
        return RunResult(pod.uuid, code, _messages(pod) if code is not None else ())
    try:
        with signals_forwarded(worker), _terminal_kept(how):
            for module in (*_FOR_THE_END, *(_FOR_GC if how.remove else ())):
                __import__(module)  # while there is nothing else to do
            code = int(worker.result(number, "run"))
        if not how.remove:
            worker.channel.close()  # so that it ends while we look for what is to be told
        return RunResult(pod.uuid, code, _messages(pod))
    finally:
        again = worker if how.remove and worker.more and via != "compatible" else None  # it has the pod's own code
        if again is None:
            worker.close()
        if how.remove:
            _collect(context, pod, again)


def _messages(pod: PodRef) -> tuple[tuple[str, str], ...]:
    """Why apps could not be started. Never an error: the exit code is known and must not be lost."""
    from podium.pods import status

    found = []
    try:
        for app in envelopes.read(pod.path).apps:
            message = status.read_app(pod.path, app.name).message
            if message is not None:
                found.append((app.name, message))
    except (Corrupt, FileNotFoundError):
        pass  # a gc has taken the pod already, or somebody damaged it
    return tuple(found)


def _collect(context: Context, pod: PodRef, worker: Worker | None) -> None:
    from podium.gc.collector import collect

    report = collect(context.data, context.config, grace_period=0, expire_prepared=0, only=pod.uuid, worker=worker)
    for failure in report.failed:
        print(f"podium: pod {failure.uuid} could not be removed: {failure.message}", file=sys.stderr)


@contextmanager
def _terminal_kept(how: RunOptions) -> Iterator[None]:
    """A supervisor that is killed can't give the terminal its settings back."""
    if not how.tty:
        yield
        return
    import termios

    saved = termios.tcgetattr(0)
    try:
        yield
    except PluginFailed:
        try:
            termios.tcsetattr(0, termios.TCSADRAIN, saved)
        except termios.error:
            pass  # it was closed
        raise
