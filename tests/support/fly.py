"""podium with busybox on the fly stage1 (or another), in the words that tests of it use."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Mapping
from typing import Any

from support.command import Podium, Result
from support.images import write_aci

IMAGE = "box"
PATIENCE = 20.0  # seconds, for what is on its way


class Fly:
    """A data directory with the image `box`, whose command is /bin/sh.

    Attributes:
        podium: the command.
        dir: a folder of the test for whatever it needs.
        rootfs: of busybox; must not be changed.
        stage1: options that choose it.
    """

    stage1: tuple[str, ...] = ("--stage1", "fly")

    def __init__(self, podium: Podium, folder: str) -> None:
        self.podium = podium
        self.dir = folder
        self.rootfs = ""

    def argv(
        self,
        verb: str,
        command: str,
        *app: str,
        pod: tuple[str, ...] = (),
        image: str = IMAGE,
        args: tuple[str, ...] = (),
    ) -> list[str]:
        """Words of a `podium run` or `prepare` of a shell command; `app` and `pod` are options."""
        return [verb, *self.stage1, *pod, image, *app, "--", "-c", command, *args]

    def run(
        self,
        command: str,
        *app: str,
        pod: tuple[str, ...] = (),
        image: str = IMAGE,
        check: int | None = 0,
        input: str | None = None,
    ) -> Result:
        """Run a shell command in the foreground; its pod is removed."""
        return self.podium(*self.argv("run", command, *app, pod=("--rm", *pod), image=image), check=check, input=input)

    def out(self, command: str, *app: str, pod: tuple[str, ...] = (), image: str = IMAGE) -> str:
        """What a shell command prints."""
        return self.run(command, *app, pod=pod, image=image).stdout.rstrip("\n")

    def start(self, command: str, *app: str, pod: tuple[str, ...] = (), image: str = IMAGE) -> str:
        """Run a shell command detached; returns the pod's uuid."""
        return self.podium.out(*self.argv("run", command, *app, pod=("--detach", *pod), image=image))

    def prepare(self, command: str, *app: str, pod: tuple[str, ...] = (), image: str = IMAGE) -> str:
        """Prepare a pod; returns its uuid."""
        return self.podium.out(*self.argv("prepare", command, *app, pod=pod, image=image))

    def refused(self, *app: str, pod: tuple[str, ...] = (), code: int = 2) -> str:
        """What `prepare` says when it refuses; it must leave no pod behind."""
        done = self.podium(*self.argv("prepare", "true", *app, pod=pod), check=code)
        assert done.stdout == "" and not self.podium.pods()
        return done.stderr

    def status(self, uuid: str) -> Any:
        """What `status` says of the pod."""
        return self.podium.json("status", uuid)["pod"]

    def app(self, uuid: str) -> Any:
        """What `status` says of the pod's app."""
        return self.status(uuid)["apps"][0]

    def ended(self, uuid: str) -> Any:
        """Wait for the pod's end; what `status` says of its app."""
        return self.podium.json("status", "--wait", uuid)["pod"]["apps"][0]

    def logged(self, uuid: str, text: str) -> None:
        """Wait until the pod has logged `text`."""
        until(lambda: text in self.podium("logs", uuid).stdout, f"{text!r} in the log")

    def folder(self, uuid: str) -> str:
        """The pod's folder."""
        path: str = self.podium.json("inspect", uuid)["path"]
        return path

    def image(self, name: str, rootfs: str | None = None, source: str | None = None, **app: Any) -> str:
        """Import an ACI.

        Args:
            name: of the image.
            rootfs: its rootfs; None: a copy of `source`.
            source: a busybox rootfs.
            app: members put over those of the manifest's app.

        Returns:
            The name.
        """
        folder = rootfs or source
        assert folder is not None
        manifest: dict[str, Any] = {
            "acKind": "ImageManifest",
            "acVersion": "0.8.11",
            "name": name,
            "labels": [{"name": "os", "value": "linux"}, {"name": "arch", "value": "amd64"}],
            "app": {"exec": ["/bin/sh"], "user": "0", "group": "0", **app},
        }
        path = write_aci(os.path.join(self.dir, name.replace("/", "-") + ".aci"), json.dumps(manifest).encode(), folder)
        self.podium("image", "import", path)
        return name

    def end_all(self) -> None:
        """End every pod that still runs."""
        if os.path.isdir(self.podium.dir):
            for uuid, pod in self.podium.pods().items():
                if pod["state"] == "running":
                    self.podium("stop", "--force", uuid, check=None)


def until(true: Callable[[], object], what: str) -> None:
    """Wait until `true` is."""
    deadline = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < deadline, f"still not so after {PATIENCE:g} s: {what}"
        time.sleep(0.01)


def small_rootfs(folder: str, busybox_rootfs: str, links: Mapping[str, str] | None = None) -> str:
    """A copy of the busybox rootfs in `folder`, in which the paths of `links` are links."""
    shutil.copytree(busybox_rootfs, folder, symlinks=True)
    for path, target in (links or {}).items():
        at = os.path.join(folder, path.lstrip("/"))
        if os.path.isdir(at) and not os.path.islink(at):
            shutil.rmtree(at)
        elif os.path.lexists(at):
            os.unlink(at)
        os.makedirs(os.path.dirname(at), exist_ok=True)
        os.symlink(target, at)
    return folder


def files_of(folder: str) -> str:
    """All there is in a folder, with types, modes, owners, sizes, times and contents' digests, as text."""
    listing = subprocess.run(
        ["find", ".", "-printf", r"%p %y %m %U %G %s %T@ %l\n"], cwd=folder, capture_output=True, text=True, check=True
    )
    sums = subprocess.run(
        ["find", ".", "-type", "f", "-exec", "sha256sum", "{}", "+"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=True,
    )
    return "\n".join(sorted(listing.stdout.splitlines()) + sorted(sums.stdout.splitlines()))
