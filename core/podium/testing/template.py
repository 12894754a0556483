"""What `podium stage1 new` writes: file name → content, with @NAME@, @PACKAGE@, @DISTRIBUTION@, @INTERFACE@."""

from __future__ import annotations

PLUGIN = '''\
"""The stage1 plugin `@NAME@`: apps in a chroot, with the host's network, processes and IPC."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from podium import sandbox
from podium.hookspecs import hookimpl
from podium.linux import mount, namespaces
from podium.linux.resolve import ensure_mountpoint, open_dir
from podium.sandbox import confine, control, paths, rootfs, volumes
from podium.sandbox.check import common_findings
from podium.types import App, EnterRequest, Finding, Ledger, Pod, Stage1Info, StopRequest, Supervisor

VERSION = "0.1.0"
# What is implemented, not what this host has. What a pod asks and this lacks is refused at prepare, by name.
CAPABILITIES = sandbox.CAPABILITIES | {"apps", "network:host"}
HOST_FOLDERS = ("/dev", "/proc", "/sys")


class Sandbox:
    """What the apps are started into. See `podium.types.Sandbox`."""

    namespaces: Mapping[str, int] = {}  # the supervisor's own
    default_capabilities: Sequence[str] | None = None  # all that podium has
    ptmx = "/dev/ptmx"

    def __init__(self, pod: Pod) -> None:
        """Mount everything in a mount namespace of the supervisor's own: nothing is ever mounted in the host's."""
        self.pod = pod
        mount.unshare_mounts()
        volumes.make_volumes(pod)
        for app in pod.apps:
            root = open_dir(rootfs.assemble(pod, app))
            try:
                # Resolved while the image alone is there: nothing in it can lead a mount point into the host's folders.
                targets = [ensure_mountpoint(root, folder, True) for folder in HOST_FOLDERS]
                volumes.mount_volumes(pod, app, root)
                for folder, target in zip(HOST_FOLDERS, targets, strict=True):
                    mount.bind(folder, target, recursive=True)
                    os.close(target)
                paths.confine_paths(app, root)
            finally:
                os.close(root)

    def root(self, app: App) -> str:
        """The app's rootfs."""
        return rootfs.path(self.pod, app)


@hookimpl
def stage1_info() -> Stage1Info:
    """Say what the plugin is and implements."""
    return Stage1Info(name="@NAME@", version=VERSION, interface=@INTERFACE@, capabilities=CAPABILITIES)


@hookimpl
def stage1_check() -> Sequence[Finding]:
    """Say what this host has and lacks."""
    return common_findings()


@hookimpl
def stage1_prepare(pod: Pod, ledger: Ledger) -> Any:
    """Make what a run will need."""
    for app in pod.apps:
        confine.check(app)
    volumes.check_sources(pod)
    overlays = [rootfs.prepare(pod, app) for app in pod.apps]
    return {"overlay": all(overlays)}


@hookimpl
def stage1_run(pod: Pod, supervisor: Supervisor) -> int:
    """Run the apps, and return when the pod has ended."""
    return supervisor.run_apps(Sandbox(pod))


@hookimpl
def stage1_enter(pod: Pod, request: EnterRequest) -> int:
    """Run a command beside an app, with its restrictions."""
    fds = namespaces.open_namespaces(control.running(pod, request.app), ("mnt",))
    try:
        return control.enter(pod, request, fds)
    finally:
        namespaces.close_all(fds)


@hookimpl
def stage1_stop(pod: Pod, request: StopRequest) -> Any:
    """End the pod, or send a signal to its apps."""
    return control.stop(pod, request)


@hookimpl
def stage1_gc(pod: Pod, ledger: Ledger) -> Any:
    """Release what was taken: nothing but the pod's control group."""
    return control.release_cgroups(pod, ledger)
'''

_TEST = '''\
"""@NAME@ does what it says of itself, and leaves nothing behind."""

from __future__ import annotations

from podium.testing import Stage1Suite


class TestConformance(Stage1Suite):
    """podium's suite. It needs root; `python -m pytest` as another user skips what starts pods."""

    plugin = "@NAME@"
'''

_PYPROJECT = """\
[build-system]
requires = ["hatchling>=1.25"]
build-backend = "hatchling.build"

[project]
name = "@DISTRIBUTION@"
version = "0.1.0"
description = "The stage1 plugin @NAME@ for podium"
readme = "README.md"
requires-python = ">=3.11"
dependencies = ["podium"]

[project.optional-dependencies]
test = ["podium[testing]"]

[project.entry-points."podium.stage1"]
@NAME@ = "@PACKAGE@"

[tool.hatch.build.targets.wheel]
packages = ["@PACKAGE@"]
"""

_README = """\
# @DISTRIBUTION@

A stage1 plugin for podium: `podium run --stage1 @NAME@ IMAGE`.

    pip install --editable '.[test]'
    podium stage1 check @NAME@            # what this host lacks
    podium stage1 test @NAME@             # hooks, claims: starts no pod
    sudo podium stage1 test @NAME@ --real # all of podium's conformance suite
    sudo python -m pytest                 # the same, as CI runs it

`@PACKAGE@/__init__.py` is the whole plugin. podium's guide for authors tells what each hook has to do.
"""

_CI = """\
name: test
on: [push, pull_request]
jobs:
  conformance:
    runs-on: ubuntu-latest
    steps:
      - uses: actions/checkout@v4
      - uses: actions/setup-python@v5
        with:
          python-version: "3.12"
      - run: sudo apt-get update && sudo apt-get install --yes busybox-static libcap-dev libseccomp2
      - run: python -m venv .venv && .venv/bin/python -m pip install --editable '.[test]'
      - run: sudo .venv/bin/podium stage1 check @NAME@
      - run: sudo .venv/bin/python -m pytest
"""

FILES = {
    "pyproject.toml": _PYPROJECT,
    "README.md": _README,
    "@PACKAGE@/__init__.py": PLUGIN,
    "@PACKAGE@/py.typed": "",
    "tests/test_conformance.py": _TEST,
    ".github/workflows/test.yml": _CI,
    ".gitignore": "__pycache__/\n.venv/\ndist/\n",
}
