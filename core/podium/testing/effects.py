"""What isolators, volumes and names do to an app, shown by what it prints; many apps share a pod.

A pod of a virtual machine takes seconds to start. So what several checks look at is run together, each in an app of its
own; a pod that does not end well is run again in pieces, so that one failure is no other check's.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
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
    """What an app printed, line by line; `failure`: what podium said of it, if anything."""

    lines: list[str]
    failure: str = ""


def show(pods: Pods, effects: Mapping[str, Effect], at_once: int) -> dict[str, Shown]:
    """Run each effect's command; returns what each showed."""
    names = list(effects)
    found: dict[str, Shown] = {}
    for start in range(0, len(names), at_once):
        batch = {name: effects[name] for name in names[start : start + at_once]}
        shown, well = _run(pods, batch)
        if not well and len(batch) > 1:
            for name, effect in batch.items():
                shown[name] = _run(pods, {name: effect})[0][name]
        found |= shown
    return found


def _run(pods: Pods, effects: Mapping[str, Effect]) -> tuple[dict[str, Shown], bool]:
    """What each effect's app showed, and whether all ended well."""
    words = ["--stage1", pods.plugin, *pods.options, *(word for effect in effects.values() for word in effect.pod)]
    for number, effect in enumerate(effects.values()):
        words += [*(["---"] if number else []), IMAGE, "--name", f"e{number}", *effect.app, "--exec", "/bin/sh"]
        words += ["--", "-c", f"( {effect.command}\n); exit 0"]
    planned = pods.podium("prepare", "--dry-run", *words, check=None)
    if planned.returncode:
        return dict.fromkeys(effects, Shown([], planned.stderr)), False
    path = pods.manifest(planned.stdout, lambda manifest: _change(manifest, effects))
    options = ("--stage1", pods.plugin, *pods.options, "--pod-manifest", path)
    started = pods.podium("run", "--detach", *options, check=None)
    if started.returncode or not started.stdout.strip():
        return dict.fromkeys(effects, Shown([], started.stderr)), False
    uuid = started.stdout.strip()
    pods.podium("wait", uuid, check=None)
    logs, ended = os.path.join(pods.path(uuid), "logs"), pods.status(uuid)
    why = {app["name"]: app["message"] or "" for app in ended["apps"]}
    shown = {name: Shown(_printed(f"{logs}/e{number}"), why[f"e{number}"]) for number, name in enumerate(effects)}
    return shown, ended["exit_code"] == 0


def _change(manifest: dict[str, Any], effects: Mapping[str, Effect]) -> None:
    for app, effect in zip(manifest["apps"], effects.values(), strict=True):
        if effect.change is not None:
            effect.change(app["app"])


def _printed(path: str) -> list[str]:
    """Standard output of a log in the CRI format: time, stream, tag, text."""
    if not os.path.exists(path):
        return []
    with open(path, encoding="utf-8", errors="replace") as f:
        fields = [line.rstrip("\n").split(" ", 3) for line in f]
    return [field[3] for field in fields if field[1] == "stdout"]
