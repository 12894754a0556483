"""Pods in virtual machines that several tests look at: a guest takes seconds to boot, so one runs many apps."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from typing import Any

from support.command import Podium
from support.fly import until

KVM = ("--stage1", "kvm", "--net", "none")
CONSOLE = ("logs", "--console")


class Ended:
    """A pod that ran to its end.

    Attributes:
        uuid: of the pod.
        pod: what `status` says of it.
        printed: app → the lines of its standard output.
        complained: app → those of its standard error.
    """

    def __init__(self, podium: Podium, uuid: str) -> None:
        self.uuid = uuid
        self.pod: Any = podium.json("status", "--wait", uuid)["pod"]
        self.printed: dict[str, list[str]] = {}
        self.complained: dict[str, list[str]] = {}
        folder = os.path.join(podium.json("inspect", uuid)["path"], "logs")
        for app in self.pod["apps"]:
            lines = _log(os.path.join(folder, app["name"]))
            self.printed[app["name"]] = [text for stream, text in lines if stream == "stdout"]
            self.complained[app["name"]] = [text for stream, text in lines if stream == "stderr"]
        self.apps: Mapping[str, Any] = {app["name"]: app for app in self.pod["apps"]}

    def values(self, app: str) -> dict[str, str]:
        """What an app printed as KEY=VALUE lines."""
        pairs = (line.partition("=") for line in self.printed[app])
        return {key: value for key, equals, value in pairs if equals}


def _log(path: str) -> list[tuple[str, str]]:
    """(stream, line) of a log in the CRI format."""
    with open(path, encoding="utf-8", errors="replace") as f:
        parts = [line.rstrip("\n").split(" ", 3) for line in f]
    return [(part[1], part[3]) for part in parts]


def start(podium: Podium, apps: Sequence[Sequence[str]], pod: Sequence[str] = ()) -> str:
    """Run a pod detached; of each app the words from its image on. Returns its uuid."""
    words = [word for app in apps for word in ("---", *app)]
    return podium.out("run", "--detach", *KVM, *pod, *words[1:])


def shell(name: str, command: str, *options: str, image: str = "box") -> tuple[str, ...]:
    """Words of an app that runs a shell command."""
    return (image, "--name", name, *options, "--exec", "/bin/sh", "--", "-c", command)


def logged(podium: Podium, uuid: str, *texts: str) -> None:
    """Wait until the pod has logged all of `texts`."""
    until(lambda: all(text in podium("logs", uuid).stdout for text in texts), f"{texts} in the log")


def isolators(podium: Podium, folder: str, name: str, rootfs: str, **app: Any) -> str:
    """Import busybox as an image whose manifest's app has these members; returns its name."""
    from support.images import write_aci

    manifest = {
        "acKind": "ImageManifest",
        "acVersion": "0.8.11",
        "name": name,
        "labels": [{"name": "os", "value": "linux"}, {"name": "arch", "value": "amd64"}],
        "app": {"exec": ["/bin/sh"], "user": "0", "group": "0", **app},
    }
    podium("image", "import", write_aci(os.path.join(folder, f"{name}.aci"), json.dumps(manifest).encode(), rootfs))
    return name
