"""What isolators, volumes and names do to an app, shown by what it prints; many apps share a pod.

A pod of a virtual machine takes seconds to start. So what several checks look at is run together, each in an app of its
own; where a pod does not end well, each gets a pod of its own, so that one failure is no other check's.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from podium.named import NamedTuple
from podium.testing.pods import IMAGE, Pods

AT_ONCE = 8  # apps of a pod; a plugin that takes fewer has them one by one


class Effect(NamedTuple):
    """One thing to be shown.

    Attributes:
        claim: the capability that it needs.
        command: of the shell.
        app: options of the app.
        pod: options of the pod, which the other apps in it have to bear.
        change: called with the app's part of the pod manifest (appc spec, "pods").
    """

    claim: str
    command: str
    app: tuple[str, ...] = ()
    pod: tuple[str, ...] = ()
    change: Callable[[dict[str, Any]], object] | None = None


class Shown(NamedTuple):
    """What an app printed, line by line; `failure`: what was said on standard error where it had a pod of its own."""

    lines: list[str]
    failure: str = ""


def show(pods: Pods, effects: Mapping[str, Effect], at_once: int) -> dict[str, Shown]:
    """Run each effect's command; returns what each showed."""
    names = list(effects)
    found: dict[str, Shown] = {}
    for start in range(0, len(names), at_once):
        batch = {name: effects[name] for name in names[start : start + at_once]}
        together = _together(pods, batch) if len(batch) > 1 else None
        found |= together or {name: _alone(pods, effect) for name, effect in batch.items()}
    return found


def _alone(pods: Pods, effect: Effect) -> Shown:
    """What it showed in a pod of its own, in the foreground."""
    words = ("--stage1", pods.plugin, *pods.options)
    app = [*effect.pod, IMAGE, *effect.app, "--exec", "/bin/sh", "--", "-c", effect.command]
    if effect.change is None:
        done = pods.podium("run", *words, *app, check=None)
        return Shown(done.stdout.splitlines(), done.stderr)
    planned = pods.podium("prepare", "--dry-run", *words, *app, check=None)
    if planned.returncode:
        return Shown([], planned.stderr)
    path = pods.manifest(planned.stdout, lambda manifest: _change(manifest, [effect]))
    done = pods.podium("run", *words, "--pod-manifest", path, check=None)
    return Shown(done.stdout.splitlines(), done.stderr)


def _together(pods: Pods, effects: Mapping[str, Effect]) -> dict[str, Shown] | None:
    """What each showed in an app of one pod; None: not all of them ended well."""
    words = ["--stage1", pods.plugin, *pods.options]
    apps = [word for effect in effects.values() for word in effect.pod]
    for number, effect in enumerate(effects.values()):
        apps += [*(["---"] if number else []), IMAGE, "--name", f"e{number}", *effect.app, "--exec", "/bin/sh"]
        apps += ["--", "-c", f"( {effect.command}\n); exit 0"]
    planned = pods.podium("prepare", "--dry-run", *words, *apps, check=None)
    if planned.returncode:
        return None
    path = pods.manifest(planned.stdout, lambda manifest: _change(manifest, effects.values()))
    started = pods.podium("run", "--detach", *words, "--pod-manifest", path, check=None)
    uuid = started.stdout.strip()
    if started.returncode or not uuid:
        return None
    pods.podium("wait", uuid, check=None)
    ended = pods.podium.json("inspect", uuid)
    if ended["pod"]["exit_code"] != 0:
        return None
    logs = os.path.join(ended["path"], "logs")
    return {name: Shown(_printed(f"{logs}/e{number}")) for number, name in enumerate(effects)}


def _change(manifest: dict[str, Any], effects: Iterable[Effect]) -> None:
    for app, effect in zip(manifest["apps"], effects, strict=True):
        if effect.change is not None:
            effect.change(app["app"])


def _printed(path: str) -> list[str]:
    """Standard output of a log in the CRI format: time, stream, tag, text."""
    if not os.path.exists(path):
        return []
    with open(path, encoding="utf-8", errors="replace") as f:
        fields = [line.rstrip("\n").split(" ", 3) for line in f]
    return [field[3] for field in fields if field[1] == "stdout"]
