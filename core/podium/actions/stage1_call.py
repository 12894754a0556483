"""stage1 call: one hook of a plugin, driven by hand, on a pod that this plugin prepared."""

from __future__ import annotations

import os
import time

from podium.actions.context import Context
from podium.errors import BadUsage, InUse, PodiumError, WrongState
from podium.hookspecs import HOOKS, PREFIX
from podium.paths import PREPARED, RUN
from podium.pods import envelope as envelopes
from podium.pods import lifecycle
from podium.pods.lifecycle import PodRef
from podium.stage1.dispatch import Dispatcher

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from podium.stage1.client import Worker

NAMES = tuple(name.removeprefix(PREFIX) for name in HOOKS)
_WITHOUT_POD = ("info", "check")
_WITH_SETTINGS = ("check", "prepare")
_CHECK_TIMEOUT = 60.0  # seconds
_STOP_TIMEOUT = 10.0  # seconds that the apps have


def call(context: Context, name: str, hook: str, ref: str | None, times: int) -> list[dict[str, Any]]:
    """Call a hook `times` times in one worker.

    Returns:
        For each call: {"result", "error" (as podium.error/1), "seconds", "descriptors" (open in the worker after it)}.

    Raises:
        BadUsage: no such hook, or a pod is missing or too many.
        WrongState: the pod is another plugin's, or not in a state for this hook.
        PodiumError: the plugin can't be loaded; or of `run` and `enter`.
    """
    if hook not in NAMES:
        raise BadUsage(f"there is no hook {hook!r}", hint=f"one of {', '.join(NAMES)}", subject=hook)
    if (ref is None) != (hook in _WITHOUT_POD):
        raise BadUsage(f"the {hook} hook takes {'a pod' if ref is None else 'no pod'}", subject=hook)
    args: dict[str, Any] = {"settings": context.config.of_stage1(name)} if hook in _WITH_SETTINGS else {}
    with Dispatcher(context.data, context.config) as dispatcher:
        if ref is None:
            worker = dispatcher.worker(dispatcher.for_new_pod(name)[0])
            return [_once(worker, hook, None, _CHECK_TIMEOUT, args) for _ in range(times)]
        pod = lifecycle.find(context.data, ref)
        envelope = envelopes.read(pod.path)
        if envelope.stage1.name != name:
            raise WrongState(f"pod {pod.uuid} is of stage1 {envelope.stage1.name!r}, not {name!r}", subject=pod.uuid)
        if hook in ("run", "enter"):
            return [_through_the_front_door(context, hook, pod)]
        pod, fd = (pod, -1) if hook == "stop" else _locked(context, hook, pod)
        try:
            limit = context.config.get("stage1", f"{hook}-timeout")
            worker = dispatcher.worker(dispatcher.require(envelope))
            if hook == "stop":
                args = {"timeout": _STOP_TIMEOUT, "force": False}
                limit += _STOP_TIMEOUT
            return [_once(worker, hook, pod.path, limit, args) for _ in range(times)]
        finally:
            if fd >= 0:
                os.close(fd)


def _locked(context: Context, hook: str, pod: PodRef) -> tuple[PodRef, int]:
    found = lifecycle.lock_pod(context.data, pod)
    if found is None or found[1] is None:
        raise InUse(f"pod {pod.uuid} runs, or is being worked on", hint="'podium stop' ends it", subject=pod.uuid)
    pod, fd = found
    assert fd is not None
    if hook == "prepare" and pod.phase != PREPARED:
        os.close(fd)
        raise WrongState(f"pod {pod.uuid} is {lifecycle.state(pod)}, not prepared", subject=pod.uuid)
    return pod, fd


def _through_the_front_door(context: Context, hook: str, pod: PodRef) -> dict[str, Any]:
    """`run` and `enter` need what podium sets up around them: a phase, a lock, streams."""
    from podium.actions.control import enter
    from podium.actions.run import run_prepared
    from podium.pods.request import RunOptions

    began = time.monotonic()
    if hook == "run":
        code = run_prepared(context, pod.uuid, RunOptions()).exit_code
    else:
        if pod.phase != RUN:
            raise WrongState(f"pod {pod.uuid} does not run: it is {lifecycle.state(pod)}", subject=pod.uuid)
        code = enter(context, pod.uuid, None, (), False)
    return {"result": code, "error": None, "seconds": time.monotonic() - began, "descriptors": None}


def _once(worker: Worker, hook: str, pod: str | None, limit: float, args: dict[str, Any]) -> dict[str, Any]:
    began, result, error = time.monotonic(), None, None
    try:
        result = worker.info if hook == "info" else worker.call(hook, pod, limit, args)
    except PodiumError as e:
        error = e.to_json()
    taken = time.monotonic() - began
    descriptors = len(os.listdir(f"/proc/{worker.pid}/fd")) if worker.usable else None
    return {"result": result, "error": error, "seconds": taken, "descriptors": descriptors}
