"""Volumes: one virtiofsd for a pod, on a folder of bind mounts.

The mounts are in a mount namespace of virtiofsd's own, so they end with it, however it ends; itself it is in the pod's
cgroup, ends when QEMU closes its socket, and dies with the supervisor. So the host keeps nothing to be given back.
"""

from __future__ import annotations

import _socket
import os
import resource

from podium.errors import HostLacks
from podium.linux import cgroup, mount, procs, programs, signals
from podium.linux.signals import signal
from podium.sandbox import volumes
from podium.types import Mount, Pod
from podium_kvm.shell import quoted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

_NAMES = ("virtiofsd", "/usr/libexec/virtiofsd", "/usr/lib/qemu/virtiofsd")  # Debian 13's is in none of PATH's folders
_SHARED = "shared"
INSTALL = "apt-get install virtiofsd (Debian 12: qemu-system-common)"


def program() -> str | None:
    """Path of virtiofsd."""
    return next((path for path in map(programs.find, _NAMES) if path), None)


def check(pod: Pod) -> None:
    """Refuse at prepare what a run would refuse.

    Raises:
        HostLacks: the pod has volumes, and there is no virtiofsd.
        BadInput: a host volume's source is not there.
    """
    if any(app.mounts for app in pod.apps):
        _needed()
        volumes.check_sources(pod)


def script(pod: Pod) -> list[str]:
    """What `guest/init` does to mount the volumes: shallow targets first."""
    lines = ["share"] if any(app.mounts for app in pod.apps) else []
    for app in pod.apps:
        for wanted in sorted(app.mounts, key=lambda m: m.target.count("/")):
            lines.append(f"show {app.name} /{_SHARED}/{_name(pod, wanted)} {quoted(wanted.target)}")
    return lines


def start(pod: Pod, listening: _socket.socket, cgroup_path: str, said: int) -> int:
    """Start virtiofsd on a listening socket, in a cgroup that is there; returns its pid. `said`: where it prints to."""
    found = _needed()
    parent = os.getpid()
    pid = cgroup.fork(cgroup_path)
    if pid == 0:
        for number in (1, 2):
            os.dup2(said, number)
        _become_virtiofsd(pod, found, listening, cgroup_path, parent)
    return pid


def _become_virtiofsd(pod: Pod, found: str, listening: _socket.socket, cgroup_path: str, parent: int) -> NoReturn:
    """The child's side of the fork. What virtiofsd says goes to the pod's plugin.log."""
    try:
        cgroup.enter(cgroup_path)
        os.setsid()
        procs.die_with_parent(signal.SIGKILL, parent)
        mount.unshare_mounts()
        volumes.make_volumes(pod)
        at = os.path.join(pod.stage1_dir, "vm", _SHARED)
        os.makedirs(at, mode=0o755, exist_ok=True)
        for app in pod.apps:
            for wanted in app.mounts:
                _place(pod, wanted, at)
        os.set_inheritable(listening.fileno(), True)
        signals.reset()
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        os.execv(found, arguments(found, _version(found), listening.fileno(), at))
    except BaseException as e:
        os.write(2, f"virtiofsd: {e}\n".encode())
    finally:
        os._exit(125)


def arguments(found: str, version: str, fd: int, at: str) -> list[str]:
    """argv of virtiofsd that serves the folder `at` on the listening socket `fd`.

    There are two: QEMU's own in C, up to its version 7, takes `-o` alone, where a comma is escaped; that in Rust takes
    the same, but splits a path at each comma and equals sign, and has options of its own. See virtiofsd(1) of each.

    Args:
        found: its path.
        version: what it prints for --version.
        fd: the descriptor.
        at: the folder.
    """
    argv = [found, f"--fd={fd}", "--rlimit-nofile=0"]
    if version.startswith("virtiofsd version "):
        source = at.replace(",", "\\,")
        return [*argv, "-o", f"source={source},sandbox=namespace,cache=auto,announce_submounts"]
    return [*argv, f"--shared-dir={at}", "--sandbox=namespace", "--cache=auto", "--announce-submounts"]


def _version(found: str) -> str:
    import subprocess

    asked = [found, "--version"]
    return subprocess.run(asked, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False).stdout


def _place(pod: Pod, wanted: Mount, at: str) -> None:
    volume = pod.volumes[wanted.volume]
    source, name = volumes.source_of(pod, volume), _name(pod, wanted)
    target = os.path.join(at, name)
    if os.path.ismount(target):
        return  # another app has it too
    if os.path.isdir(source):
        os.makedirs(target, exist_ok=True)
    else:
        os.close(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))
    mount.bind(source, target, recursive=volume.recursive, read_only=name != volume.name)


def _name(pod: Pod, wanted: Mount) -> str:
    """In the shared folder: what may not be written has a mount of its own there, which the guest can't change."""
    read_only = wanted.read_only or pod.volumes[wanted.volume].read_only
    return f"{wanted.volume}.ro" if read_only else wanted.volume  # no volume's name has a dot


def _needed() -> str:
    found = program()
    if found is None:
        raise HostLacks(
            "volumes of a virtual machine need virtiofsd, which is not installed",
            hint=INSTALL,
            subject="virtiofsd",
        )
    return found
