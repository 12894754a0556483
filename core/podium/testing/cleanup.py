"""Brute force, after the guard has looked: so that one test's leftovers don't fail the next one."""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import signal
import subprocess
import time

from podium.testing.snapshot import (
    NETNS_FOLDERS,
    Scope,
    Snapshot,
    cgroup_mounts,
    links,
    loop_devices,
    our_processes,
    processes,
)

MNT_DETACH = 2


def clean_up(scope: Scope, cgroup_parent: str) -> None:
    """End our processes, then remove our mounts, namespaces, links and cgroups. Nothing without a mark is touched."""
    for process in our_processes(Snapshot({}, processes()), Scope(scope.marks, scope.keeper)):
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGKILL)
    for point in reversed(_mount_points()):
        if scope.has(point):
            _unmount(point)
    for folder in ("/run/podium", *NETNS_FOLDERS):
        for name in os.listdir(folder) if os.path.isdir(folder) else ():
            path = os.path.join(folder, name)
            if scope.has(path) and not os.path.isdir(path):
                os.unlink(path)
    for things, command in ((links(), ("ip", "link", "delete")), (loop_devices(), ("losetup", "--detach"))):
        for name, looks in things.items():
            if scope.has(f"{name} {looks}"):
                subprocess.run([*command, name], stdin=subprocess.DEVNULL, check=False)
    remove_cgroups(cgroup_parent)


def _mount_points() -> list[str]:
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as f:
        raw = [line.split(" ")[4] for line in f]
    return [point.encode("utf-8", "surrogateescape").decode("unicode_escape") for point in raw]


def _unmount(point: str) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.umount2(os.fsencode(point), MNT_DETACH)


def remove_cgroups(parent: str) -> None:
    """Remove the cgroup `parent` and all below it from every hierarchy; processes in it have been killed."""
    for mount in cgroup_mounts():
        top = os.path.join(mount, parent)
        for folder, _, _ in os.walk(top, topdown=False):
            for _ in range(100):  # a process that was just killed may take a moment
                try:
                    os.rmdir(folder)
                except FileNotFoundError:
                    break
                except OSError:
                    time.sleep(0.02)
                else:
                    break


def remove(path: str) -> None:
    """Remove a file or folder, if it is there."""
    if os.path.isdir(path) and not os.path.islink(path):
        remove_folder(path)
    elif os.path.lexists(path):
        os.unlink(path)


def remove_folder(folder: str) -> None:
    """Remove a test's folder, unless something is still mounted below it.

    Raises:
        AssertionError: something is; deleting would go through the mount.
    """
    mounted = [point for point in _mount_points() if point == folder or point.startswith(folder + "/")]
    assert not mounted, f"not removing {folder}: {mounted} are mounted there"
    shutil.rmtree(folder)
