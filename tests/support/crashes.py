"""A data directory with an image, on which pods come and go while podium is stopped in all sorts of ways."""

from __future__ import annotations

import json
import os
import shutil
from typing import Any

from support.command import Podium
from support.damage import Answer, podium_forked
from support.injections import let_end
from support.snapshot import Scope, Snapshot, settled, snapshot

FLY = ("--stage1", "fly", "--net", "host")
NSPAWN = ("--stage1", "nspawn", "--net", "none")
GC = ("gc", "--grace-period", "0s", "--expire-prepared", "0s")
IMAGE_GC = ("image", "gc", "--grace-period", "0s")
TRUE = ("box", "--exec", "/bin/true")
# Nothing but its cgroup ends the first sleep when the supervisor is killed.
SLEEP = ("box", "--exec", "/bin/sh", "--", "-c", "sleep 1000 & sleep 1000")


class Act:
    """The podium command that a scenario is about: once it does its work, then it is stopped in it."""

    def __init__(self, podium: Podium, *, killed: bool) -> None:
        self._podium = podium
        self._killed = killed

    def __call__(self, *words: str, code: int = 0) -> None:
        self._podium(*words, check=None if self._killed else code)


class Host:
    """One data directory with the image `box`.

    Attributes:
        podium: the command on it.
        rootfs: the folder that `box` was imported from.
        folder: a place for files.
    """

    def __init__(self, podium: Podium, rootfs: str, folder: str) -> None:
        self.podium = podium
        self.rootfs = rootfs
        self.folder = folder

    @classmethod
    def make(cls, podium: Podium, busybox_rootfs: str, folder: str) -> Host:
        """With an image of four files, so that little time goes into it."""
        small = os.path.join(folder, "rootfs")
        os.makedirs(os.path.join(small, "bin"))
        for name in ("busybox", "true", "sleep", "sh"):
            shutil.copy2(os.path.join(busybox_rootfs, "bin", name), os.path.join(small, "bin"), follow_symlinks=False)
        podium("image", "import", small, "--name", "box", "--exec", "/bin/true")
        return cls(podium, small, folder)

    def forked(self, *words: str, check: int | None = 0, killed_at: str | None = None) -> Answer:
        """A podium command that is not what is tested: without starting an interpreter, if it needs none of its own."""
        if self.podium.env:
            ran = self.podium(*words, check=None)
            done = Answer(ran.returncode, ran.stdout, ran.stderr)
        else:
            done = podium_forked(self.podium.argv(*words)[1:], killed_at)
        assert check is None or done.code == check, f"{words} exited {done.code}: {done.out}{done.err}"
        return done

    def pods(self) -> list[dict[str, Any]]:
        """What `list` says of the pods."""
        pods: list[dict[str, Any]] = json.loads(self.forked("list", "--format", "json").out)["pods"]
        return pods

    def prepare(self, *words: str, stage1: tuple[str, ...] = FLY) -> str:
        """A prepared pod, by default one that sleeps; returns its uuid."""
        return self.forked("prepare", *stage1, *(words or SLEEP)).out.strip()

    def start(self, *words: str, stage1: tuple[str, ...] = FLY) -> str:
        """A running pod, by default one that sleeps; returns its uuid."""
        return self.podium.out("run", "--detach", *stage1, *(words or SLEEP))

    def exited(self, stage1: tuple[str, ...] = FLY) -> str:
        """A pod that has ended; returns its uuid."""
        uuid = self.prepare(*TRUE, stage1=stage1)
        self.forked("run-prepared", uuid)
        return uuid

    def stop_all(self) -> None:
        """Stop the pods that run."""
        for pod in self.pods():
            if pod["state"] == "running":
                self.forked("stop", pod["uuid"], check=None)

    def abandoned(self, stage1: tuple[str, ...] = FLY) -> None:
        """A pod whose supervisor was killed before it could clear up: its ledger lists what it holds."""
        self.forked("run", *stage1, *TRUE, check=125, killed_at="run:ended")

    def another_rootfs(self) -> str:
        """The folder of an image that is new each time, or nothing would be unpacked."""
        with open(os.path.join(self.rootfs, "number"), "a", encoding="ascii") as f:
            f.write("1\n")
        return self.rootfs

    def unnamed(self) -> None:
        """An image that nothing names: another one has its name."""
        for _ in range(2):
            self.forked("image", "import", self.another_rootfs(), "--name", "passing", "--exec", "/bin/true")

    def folders(self) -> list[str]:
        """Those in which nothing may be left."""
        return [os.path.join(self.podium.dir, part) for part in ("pods", "tmp")]

    def forget_unborn(self) -> None:
        """Remove the empty folder of a pod whose maker was killed before he locked it: gc lets it be for a minute."""
        tmp = os.path.join(self.podium.dir, "tmp")
        for name in os.listdir(tmp):
            if name.startswith("pod-"):
                os.rmdir(os.path.join(tmp, name))

    def look(self) -> Snapshot:
        """The host, with these folders."""
        return snapshot(self.folders())

    def let_end(self) -> None:
        """Whoever works on the data directory ends by himself: a supervisor without its client, the rm of --rm."""
        let_end(self.podium.dir)

    def wrong_after_gc(self, before: Snapshot, scope: Scope) -> str | None:
        """What is wrong once one gc is done; None: nothing is left, and no pod."""
        self.let_end()
        done = self.forked(*GC, check=None)
        pods = self.pods()
        left = settled(before, scope, self.folders())
        if done.code or pods or left:
            return f"gc exited {done.code} {done.err}, {pods}\n  " + "\n  ".join(left)
        return None
