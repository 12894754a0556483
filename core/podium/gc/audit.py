"""What no ledger lists: mounts below a pod's folder, processes rooted there, links, loop devices and cgroups of its.

The host is looked at once for all pods of a pass; where something was found for a pod, it is looked at anew after the
release. A look taken after the pods' supervisors have ended can only show too much, never too little.
"""

from __future__ import annotations

import os

from podium.errors import HostLacks
from podium.gc.reclaim import Leftover
from podium.linux import cgroup

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from podium.linux.loop import LoopDevice
    from podium.linux.procs import Process
    from podium.paths import DataDir


class Host:
    """The host at one moment, by pod."""

    def __init__(self, data: DataDir) -> None:
        self.pods = os.path.realpath(data.pods)
        self._cgroups: dict[str, set[str]] = {}
        self.mounts = self._mounts()
        self.processes = self._processes()
        self.links = self._links()
        self.loops = self._loops()

    def _uuid(self, path: str) -> str | None:
        """The pod below whose folder a path is, whatever its phase was then."""
        if not path.startswith(self.pods + "/"):
            return None
        parts = path[len(self.pods) + 1 :].split("/", 2)
        return parts[1] if len(parts) > 1 else None

    def _mounts(self) -> set[str]:
        from podium.linux.mount import read_mountinfo

        return {uuid for entry in read_mountinfo() if (uuid := self._uuid(entry.target)) is not None}

    def _processes(self) -> dict[str, list[Process]]:
        from podium.linux.procs import processes_rooted_below

        found: dict[str, list[Process]] = {}
        for process in processes_rooted_below(self.pods):
            uuid = self._rooted_in(process.pid)
            if uuid is not None:
                found.setdefault(uuid, []).append(process)
        return found

    def _rooted_in(self, pid: int) -> str | None:
        """The pod whose rootfs is the process's root.

        A working folder or a program there proves nothing: an administrator may have looked around.
        """
        from podium.linux.mount import read_mountinfo

        try:
            uuid = self._uuid(os.readlink(f"/proc/{pid}/root"))
            if uuid is not None or os.readlink(f"/proc/{pid}/ns/mnt") == os.readlink("/proc/self/ns/mnt"):
                return uuid
            roots = [entry for entry in read_mountinfo(pid) if entry.target == "/"]
        except OSError:
            return None
        if not roots:
            return None
        upper = [o.removeprefix("upperdir=") for o in roots[-1].super_options.split(",") if o.startswith("upperdir=")]
        # A bind mount's root is a path in its file system, which may be mounted elsewhere than at /.
        at = roots[-1].root.find("/pods/")
        inner = self.pods + roots[-1].root[at + len("/pods") :] if at >= 0 else ""
        return next((uuid for path in (*upper, inner) if (uuid := self._uuid(path)) is not None), None)

    def _links(self) -> dict[str, str]:
        from podium.gc.reclaim.link import aliases

        return aliases()

    def _loops(self) -> dict[str, list[LoopDevice]]:
        from podium.linux.loop import attached

        found: dict[str, list[LoopDevice]] = {}
        for device in attached(self.pods + "/"):
            uuid = self._uuid(device.backing)
            if uuid is not None:
                found.setdefault(uuid, []).append(device)
        return found

    def cgroups(self, paths: Iterable[str]) -> list[str]:
        """Those of `paths` that were there: one listing for each parent."""
        found = []
        for path in paths:
            parent, _, name = path.rpartition("/")
            if parent not in self._cgroups:
                try:
                    self._cgroups[parent] = cgroup.existing(parent)
                except HostLacks:
                    self._cgroups[parent] = set()
            if name in self._cgroups[parent]:
                found.append(path)
        return found


def release(host: Host, uuid: str, folder: str, cgroups: Iterable[str]) -> list[tuple[str, str]]:
    """Release what a look at the host shows of a pod.

    Args:
        host: the look.
        uuid: of the pod.
        folder: the pod's, without symbolic links in its path.
        cgroups: paths that can only be the pod's.

    Returns:
        Kind and id of what was there.

    Raises:
        Leftover, InUse: it could not be released.
        OSError: of the call that failed.
    """
    done: list[tuple[str, str]] = []
    for path in host.cgroups(cgroups):
        from podium.gc.reclaim.cgroup import end, exists

        if exists(path):
            end(path, uuid)
            done.append(("cgroup", path))
    for process in host.processes.get(uuid, ()):
        from podium.gc.reclaim import process as processes
        from podium.linux.procs import alive

        if alive(process):
            processes.end(process, uuid)
            done.append(("process", str(process.pid)))
    if uuid in host.mounts:
        from podium.gc.reclaim.mount import unmount_below

        done += [("mount", target) for target in unmount_below(folder)]
    for name, alias in host.links.items():
        if uuid in alias:
            from podium.gc.reclaim.link import aliases, delete

            if uuid in aliases().get(name, ""):
                delete(name, alias)
                done.append(("link", name))
    if uuid in host.loops:
        done += [("loop", device) for device in _detach_below(folder)]
    return done


def _detach_below(folder: str) -> list[str]:
    from podium.gc.reclaim.loop import identity, let_go
    from podium.linux.loop import attached

    done = []
    for found in attached(folder + "/"):
        backing = identity(found.backing)
        if backing is not None:
            let_go(found, backing)
            done.append(found.device)
    return done


def verify(data: DataDir, uuid: str, cgroups: Iterable[str]) -> None:
    """Look once more, at everything, for a pod of which something was there.

    Raises:
        Leftover: names what is left.
    """
    host = Host(data)
    left = [f"cgroup {path}" for path in host.cgroups(cgroups)]
    left += [f"process {process.pid}" for process in host.processes.get(uuid, ())]
    left += [f"loop device {device.device}" for device in host.loops.get(uuid, ())]
    left += [f"link {name}" for name, alias in host.links.items() if uuid in alias]
    if uuid in host.mounts:
        left.append("a mount below its folder")
    if left:
        raise Leftover(f"of pod {uuid} there still is: {', '.join(left)}", subject=uuid)
