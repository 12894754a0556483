"""The worker: a process that loads one plugin and serves hook calls over a socket (see protocol.py).

It is the only place where plugin code runs. The worker of `run` becomes the pod's supervisor.
"""

from __future__ import annotations

import os
import sys
from _socket import socket

from podium.contexts import suppress
from podium.errors import PluginFailed, PluginRefused, PodiumError, Stopped
from podium.stage1.protocol import BrokenPeer, Channel

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from podium.sandbox.handover import Handover
    from podium.sandbox.waiting import Waiting
    from podium.stage1.calling import Loaded
    from podium.stage1.resting import Taken

_AHEAD = (
    # for prepare, which is asked for first
    "podium.pods.model",
    "podium.sandbox.confine",
    "podium.sandbox.paths",
    "podium.sandbox.rootfs",
    "podium.sandbox.volumes",
    "podium.linux.overlay",
    # for run
    "prctl",
    "podium.linux.clone",
    "podium.sandbox.networks",
    "podium.sandbox.supervisor",
)


def serve_fd(fd: int) -> None:
    """Serve requests that come over the socket `fd` until it is closed."""
    serve(Channel(socket(fileno=fd)))


def serve(channel: Channel) -> None:
    """Serve requests until the other side closes the channel."""
    import podium.stage1.calling  # noqa: F401  (the first request will need it; its sender is still busy)

    worker = _Worker(channel)
    worker.work_ahead()
    for request in channel.requests():
        answer = worker.answer(request)
        if not _send(channel, request.get("id"), answer, worker.afterwards):
            break
        worker.work_ahead()


def take_over(taken: Taken, waiting: Waiting) -> Callable[[bytes, bool], None]:
    """Be the supervisor again of a pod at rest.

    Returns:
        What serves it to its end; its arguments are what `Waiting.wait` returned last.
    """
    from importlib import import_module

    from podium.sandbox.supervisor import PodSupervisor
    from podium.stage1.resting import rest

    run = taken.run
    channel, pod = Channel(socket(fileno=run.channel)), run.pod()
    module, name = taken.sandbox["class"]
    sandbox = getattr(import_module(module), name).taken_over(pod, taken.sandbox["record"])
    supervisor = PodSupervisor.taken_over(
        pod, taken.supervisor, sandbox, waiting, channel.sock, lambda handover: rest(run, handover)
    )

    def serve_to_the_end(received: bytes, gone: bool) -> int:
        with supervisor:
            try:
                code = supervisor.go_on(received, gone)
            finally:
                sandbox.close()
            return supervisor.finish(code)

    def go_on(received: bytes, gone: bool) -> None:
        answer = _answered(lambda: serve_to_the_end(received, gone), "run", run.code["plugin"][0], in_pod=True)
        _send(channel, run.number, answer, run.afterwards)

    return go_on


def _answered(work: Callable[[], Any], hook: str, name: str, *, in_pod: bool) -> dict[str, Any]:
    """The answer of the protocol: a result, or what went wrong."""
    try:
        return {"result": work()}
    except PodiumError as e:
        return {"error": e.to_json()}
    except Exception as e:
        import traceback

        traceback.print_exc()
        what = f"{type(e).__name__}: {e}" if str(e) else type(e).__name__
        failure = PluginFailed(
            f"the {hook} hook of stage1 plugin {name!r} failed: {what}",
            reason="plugin-raised",
            hint="the traceback is in the pod's plugin.log" if in_pod else None,
            subject=name,
        )
        return {"error": failure.to_json()}
    finally:
        if in_pod:
            from podium.sandbox import plugin_log

            sys.stdout.flush()
            sys.stderr.flush()
            plugin_log.bound()


def _send(channel: Channel, number: Any, answer: dict[str, Any], afterwards: list[str]) -> bool:
    """Answer; False when the caller is gone: what was done is on disk. With `afterwards`, this process becomes that."""
    sys.stdout.flush()
    sys.stderr.flush()
    try:
        channel.send({"id": number, **answer})
        return True
    except BrokenPeer:
        return False
    finally:
        if afterwards:
            os.execv(afterwards[0], afterwards)


class _Worker:
    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._loaded: Loaded | None = None
        self.afterwards: list[str] = []  # what this process becomes once it has answered
        self._ahead = ["podium.pods.model"]  # modules that will be needed: this one by all that is done to a pod
        self._more: dict[str, bool] = {}  # what the answers say besides

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        name = self._loaded.name if self._loaded else request["args"].get("name")
        hook, in_pod = str(request.get("hook")), bool(request.get("pod"))
        answer = _answered(lambda: self._handle(request), hook, name, in_pod=in_pod)
        return {**answer, **self._more} if "result" in answer else answer

    def _handle(self, request: dict[str, Any]) -> Any:
        hook, args = request["hook"], request["args"]
        if hook == "load":
            loaded = self._load(args["name"], args["entry"])
            if args.get("ahead") and self._loaded:
                self._ahead = [*_AHEAD, *self._loaded.ahead]
            return loaded
        assert self._loaded is not None, "load comes first"
        if hook == "check":
            found = self._loaded.call_exactly("check", settings=args.get("settings", {}))
            return [finding.values() for finding in found]
        folder: str = request["pod"]
        from podium.sandbox import plugin_log

        plugin_log.become(folder)
        if hook == "run":
            self.work_ahead(whatever_comes=True)
            return self._run(folder, args, request["id"])
        return getattr(self, f"_{hook}")(folder, args)

    def work_ahead(self, *, whatever_comes: bool = False) -> None:
        """Import what will be needed while the caller has nothing to ask, as when it prepares a run.

        A run begins with the rest of it, so that no upgrade on disk mixes into a pod; `FOR_APPS` of the supervisor
        follow while its sandbox is made.
        """
        while self._ahead and (whatever_comes or not self._channel.asked()):
            with suppress(ImportError):  # who needs it will say so
                __import__(self._ahead.pop(0))

    def _load(self, name: str, entry: str) -> dict[str, Any]:
        from podium.stage1.calling import Loaded
        from podium.types import StopRequest

        module, _, attribute = entry.partition(":")
        try:
            __import__(module)
            plugin: object = sys.modules[module]
            for part in attribute.split(".") if attribute else ():
                plugin = getattr(plugin, part)
        except PodiumError:
            raise
        except (Exception, SystemExit) as e:
            raise PluginRefused(
                f"stage1 plugin {name!r} can't be loaded from {entry}: {type(e).__name__}: {e}",
                hint="reinstall the distribution that brings it",
                subject=name,
            ) from e
        self._loaded = Loaded(name, plugin)
        info = self._loaded.info
        return {
            "name": info.name,
            "version": info.version,
            "interface": info.interface,
            "state": info.state,
            "serves": [list(pair) for pair in info.serves],
            "capabilities": sorted(info.capabilities),
            "warnings": self._loaded.warnings,
            "stop": [*StopRequest._fields],
            "pid": os.getpid(),
        }

    def _call(self, hook: str, **args: Any) -> Any:
        assert self._loaded is not None
        return self._loaded.call_exactly(hook, **args)

    def _prepare(self, folder: str, args: dict[str, Any]) -> Any:
        from podium.pods.ledger import PodLedger
        from podium.pods.model import asked, load

        assert self._loaded is not None
        pod = load(folder).replace(settings=args.get("settings", {}))
        self._loaded.refuse_unsupported(asked(pod))
        os.makedirs(pod.stage1_dir, mode=0o700, exist_ok=True)
        return self._call("prepare", pod=pod, ledger=PodLedger(folder))

    def _run(self, folder: str, args: dict[str, Any], number: int) -> int:
        from podium.linux.signals import signal
        from podium.pods.model import load
        from podium.sandbox.handover import Options
        from podium.sandbox.supervisor import NEVER_STARTED, PodSupervisor

        def notify(event: str, data: dict[str, Any]) -> None:
            try:
                self._channel.send({"id": number, "event": event, "data": data})
            except BrokenPeer:
                pass  # the caller is gone; the supervisor finds out by itself what that means for the pod

        pod, options = load(folder).replace(settings=args.get("settings", {})), Options.from_json(args)
        if options.remove and options.stdio is None:
            # Nobody waits for a detached pod: its own supervisor has it collected, by the podium of that day.
            self.afterwards = [sys.executable, "-m", "podium", "--dir", pod.data_root, "rm", pod.uuid]

        def rest(handover: Handover) -> None:
            from podium.stage1 import resting

            began = resting.begin(number, self._channel.fileno(), self.afterwards, pod, options.via)
            resting.rest(began, handover)

        rests = rest if options.via in ("installed", "pin") else None  # other code could not be found again
        with PodSupervisor(pod, options, notify, self._channel.sock, rests) as supervisor:
            try:
                code = self._call("run", pod=pod, supervisor=supervisor)
            except Stopped as e:
                code = supervisor.never_started(e)
            except PodiumError:
                if not supervisor.was_ended_by_force():
                    raise
                code = supervisor.never_started(Stopped(NEVER_STARTED, subject=pod.uuid, number=signal.SIGKILL))
            supervisor.finish(int(code))
        if options.remove and supervisor.step_back():
            self._more = {"more": True}
        return int(code)

    def _enter(self, folder: str, args: dict[str, Any]) -> int:
        from podium.pods.model import load
        from podium.types import EnterRequest

        request = EnterRequest(
            app=args["app"], command=tuple(args["command"]), tty=args["tty"], stdio=tuple(args["stdio"])
        )
        return int(self._call("enter", pod=load(folder), request=request))

    def _stop(self, folder: str, args: dict[str, Any]) -> Any:
        from podium.pods.model import load_tolerant
        from podium.types import StopRequest

        return self._call("stop", pod=load_tolerant(folder), request=StopRequest(**args))

    def _gc(self, folder: str, args: dict[str, Any]) -> Any:
        from podium.pods.ledger import PodLedger
        from podium.pods.model import load_tolerant

        return self._call("gc", pod=load_tolerant(folder), ledger=PodLedger(folder))
