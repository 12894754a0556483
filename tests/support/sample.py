"""A small stage1 plugin, as a third party would write one; its versions leave different traces of their own code."""

from __future__ import annotations

_PLUGIN = """
import os
from podium.hookspecs import hookimpl
from podium.linux import mount, namespaces
from podium.sandbox import control, rootfs
from podium.types import Finding, Stage1Info

VERSION = {version!r}


def leave(what):
    with open(os.environ["SAMPLE_TRACE"], "a") as f:
        f.write(what + " " + VERSION + "\\n")


class Sandbox:
    namespaces = {{}}
    default_capabilities = None
    ptmx = "/dev/ptmx"

    def __init__(self, pod):
        self.pod = pod
        mount.unshare_mounts()
        for app in pod.apps:
            rootfs.assemble(pod, app)

    def root(self, app):
        return rootfs.path(self.pod, app)


@hookimpl
def stage1_info():
    return Stage1Info(
        name="sample", version=VERSION, state={state}, serves={serves!r},
        capabilities=frozenset({{"apps", "enter", "network:host", "restart"}}),
    )


@hookimpl
def stage1_check():
    return [Finding(name="sample", ok=True)]


@hookimpl
def stage1_prepare(pod, ledger):
    leave("prepare")
    for app in pod.apps:
        rootfs.prepare(pod, app)
    return True


@hookimpl
def stage1_run(pod, supervisor):
    leave("run")
    return supervisor.run_apps(Sandbox(pod))


@hookimpl
def stage1_enter(pod, request):
    leave("enter")
    fds = namespaces.open_namespaces(control.running(pod, request.app), ("mnt",))
    return control.enter(pod, request, fds)


@hookimpl
def stage1_stop(pod, request):
    leave("stop")
    return control.stop(pod, request)


@hookimpl
def stage1_gc(pod, ledger):
    leave("gc")
    if os.environ.get("SAMPLE_FAIL") == "gc":
        raise RuntimeError("it was told to fail")
    return control.release_cgroups(pod, ledger)
"""


def sample_code(version: str, *, state: int = 1, serves: tuple[tuple[int, int], ...] = ()) -> str:
    """The plugin's module."""
    return _PLUGIN.format(version=version, state=state, serves=serves)
