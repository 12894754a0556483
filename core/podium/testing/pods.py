"""Pods of one plugin, in the words that the checks use."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from typing import Any

from podium.paths import PHASES
from podium.testing import cleanup
from podium.testing.command import Podium, Result
from podium.testing.snapshot import Scope, processes

IMAGE = "box"
GC = ("gc", "--grace-period", "0s", "--expire-prepared", "0s")
PATIENCE = 30.0  # seconds, for what is on its way


class Pods:
    """A data directory with the image `box` (busybox), and pods of the plugin under test in it.

    Attributes:
        podium: the command.
        plugin: the plugin's name.
        options: pod options that every pod has.
        scope: what of the host is the suite's.
        folder: the suite's folder.
    """

    def __init__(
        self, podium: Podium, plugin: str, options: tuple[str, ...], scope: Scope, folder: str, parent: str
    ) -> None:
        self.podium = podium
        self.plugin = plugin
        self.options = options
        self.scope = scope
        self.folder = folder
        self._parent = parent

    def words(self, verb: str, command: str, app: tuple[str, ...] = (), pod: tuple[str, ...] = ()) -> list[str]:
        """Words of a `podium run` or `prepare` of a shell command; `app` and `pod` are options."""
        shell = ("--exec", "/bin/sh", "--", "-c", command)
        return [verb, "--stage1", self.plugin, *self.options, *pod, IMAGE, *app, *shell]

    def run(
        self,
        command: str,
        *app: str,
        pod: tuple[str, ...] = (),
        check: int | None = 0,
        input: str | None = None,
    ) -> Result:
        """Run a shell command in the foreground."""
        return self.podium(*self.words("run", command, app, pod), check=check, input=input)

    def run_manifest(self, command: str, change: Callable[[dict[str, Any]], None], check: int | None = 0) -> Result:
        """Run a shell command in the foreground, as the first app of a pod manifest which `change` has changed.

        Args:
            command: of the shell.
            change: called with the `app` object of the manifest (appc spec, "pods").
            check: the exit code that it must have; None: any.
        """
        path = self._manifest(command, lambda pod: change(pod["apps"][0]["app"]), self.options)
        words = ("run", "--stage1", self.plugin, *self.options, "--pod-manifest", path)
        return self.podium(*words, check=check)

    def start_manifest(self, command: str, change: Callable[[dict[str, Any]], None], *options: str) -> str:
        """Run a shell command detached, as the one app of a pod manifest which `change` has changed.

        Args:
            command: of the shell.
            change: called with the manifest.
            options: of the pod, in place of those that every pod has.

        Returns:
            The pod's uuid.
        """
        chosen = options or self.options
        path = self._manifest(command, change, chosen)
        return self.podium.out("run", "--detach", "--stage1", self.plugin, *chosen, "--pod-manifest", path)

    def _manifest(self, command: str, change: Callable[[dict[str, Any]], None], options: tuple[str, ...]) -> str:
        shell = ("--exec", "/bin/sh", "--", "-c", command)
        words = ("prepare", "--dry-run", "--stage1", self.plugin, *options, IMAGE, *shell)
        return self.manifest(self.podium.out(*words), change)

    def manifest(self, text: str, change: Callable[[dict[str, Any]], None]) -> str:
        """Write a pod manifest, which `change` has changed, to a file; returns its path."""
        manifest = json.loads(text)
        change(manifest)
        path = os.path.join(self.folder, "manifest.json")
        with open(path, "w", encoding="utf-8") as f:
            json.dump(manifest, f)
        return path

    def start(self, command: str, *app: str, pod: tuple[str, ...] = ()) -> str:
        """Run a shell command detached; returns the pod's uuid."""
        return self.podium.out(*self.words("run", command, app, ("--detach", *pod)))

    def prepare(self, command: str, *app: str, pod: tuple[str, ...] = ()) -> str:
        """Prepare a pod; returns its uuid."""
        return self.podium.out(*self.words("prepare", command, app, pod))

    def exited(self) -> str:
        """A pod that has run `true`; returns its uuid."""
        uuid = self.prepare("true")
        self.podium("run-prepared", uuid)
        return uuid

    def status(self, uuid: str) -> Any:
        """What `status` says of the pod."""
        return self.podium.json("status", uuid)["pod"]

    def path(self, uuid: str) -> str:
        """The pod's folder."""
        path: str = self.podium.json("inspect", uuid)["path"]
        return path

    def call(self, hook: str, *words: str) -> Any:
        """`stage1 call`: what came of each call."""
        return self.podium.json("stage1", "call", self.plugin, hook, *words, check=None)["calls"]

    def gc(self) -> str:
        """Collect everything; returns what failed, empty if nothing did."""
        done = self.podium(*GC, check=None)
        left = self.uuids()
        return f"gc exited {done.returncode}: {done.stderr}; left: {left}" if done.returncode or left else ""

    def uuids(self) -> list[str]:
        """Of all pods that there are, as the disk has them."""
        found = []
        for phase in PHASES:
            folder = os.path.join(self.podium.dir, "pods", phase)
            found += os.listdir(folder) if os.path.isdir(folder) else []
        return found

    def until(self, true: Callable[[], object], what: str) -> None:
        """Wait until `true` is."""
        deadline = time.monotonic() + PATIENCE
        while not true():
            assert time.monotonic() < deadline, f"still not so after {PATIENCE:g} s: {what}"
            time.sleep(0.05)

    def logged(self, uuid: str, text: str, app: str | None = None) -> str:
        """Wait until the pod, or one app of it, has printed `text`; returns all that it printed."""
        words = ("logs", *(("--app", app) if app else ()), uuid)
        self.until(lambda: text in self.podium.out(*words), f"the pod has printed {text!r}")
        return self.podium.out(*words)

    def let_end(self) -> None:
        """Whoever works on the data directory ends by himself, once podium was killed under him."""
        needle = self.podium.dir
        self.until(
            lambda: all(needle not in p.command or p.pid == os.getpid() for p in processes().values()),
            "what worked on the data directory has ended",
        )

    def end_all(self) -> None:
        """Remove every pod, by brute force where the plugin does not do it."""
        if uuids := self.uuids():
            self.podium("rm", "--force", *uuids, check=None)
        cleanup.clean_up(self.scope, self._parent)
        for phase in PHASES:
            for uuid in self.uuids():
                cleanup.remove(os.path.join(self.podium.dir, "pods", phase, uuid))
