"""Where this host's cgroup hierarchies are, and reading and writing their files. See cgroups(7).

A host has the v2 hierarchy with all controllers, or v1 hierarchies with one or a few controllers each, or both (hybrid:
the v2 one then has the controllers that no v1 hierarchy has). A cgroup of podium's is one relative path below all.
"""

from __future__ import annotations

import errno
import os

from podium.named import NamedTuple

_CONTROLLERS = ("cpu", "cpuset", "io", "memory", "pids")  # of v2, which are passed down
# v1 hierarchies in which there may be a cgroup of podium's (perf_event, net_cls, net_prio, rdma, misc, hugetlb and
# debug never had one), and those in which every pod has one: to count its memory, and systemd's own. Where there is no
# v2, which does both, also to count its processor time and to stop it.
_V1 = ("cpu", "cpuacct", "cpuset", "memory", "pids", "blkio", "freezer", "devices", "systemd")
_OF_ALL = ("memory", "systemd")
_OF_ALL_WITHOUT_V2 = ("cpuacct", "freezer")


class Hierarchies(NamedTuple):
    """The hierarchies that podium makes its cgroups in.

    Attributes:
        v2: mount point of the v2 hierarchy; None: not mounted.
        v2_controllers: what it has.
        v1: controller (`systemd` for name=systemd) → mount point of its hierarchy; several may share one.
    """

    v2: str | None
    v2_controllers: frozenset[str]
    v1: dict[str, str]

    @property
    def mounts(self) -> list[str]:
        """The mount points, each once, the v2 one first."""
        return list(dict.fromkeys([*([self.v2] if self.v2 else []), *self.v1.values()]))

    def having(self, path: str) -> list[str]:
        """Mount points of the hierarchies that every pod's cgroup is in, and of those others in which `path` is."""
        of_all = _OF_ALL if self.v2 else _OF_ALL + _OF_ALL_WITHOUT_V2
        sure = {self.v2, *(mount for name, mount in self.v1.items() if name in of_all)}
        return [mount for mount in self.mounts if mount in sure or (path and os.path.isdir(f"{mount}/{path}"))]

    def folders(self, path: str) -> list[str]:
        """The folders of a cgroup in every hierarchy, the v2 one first."""
        check_path(path)
        return [f"{mount}/{path}" for mount in self.mounts]

    def folder(self, controller: str, path: str) -> str | None:
        """The cgroup's folder where `controller` (by its v1 name, but `io` for blkio) is; None: the host has it not."""
        check_path(path)
        v1 = self.v1.get("blkio" if controller == "io" else controller)
        if v1 is not None:
            return f"{v1}/{path}"
        return f"{self.v2}/{path}" if self.v2 and controller in self.v2_controllers else None

    def is_v2(self, folder: str) -> bool:
        """Whether a folder that `folder` or `folders` gave is in the v2 hierarchy."""
        return self.v2 is not None and folder.startswith(self.v2 + "/") and self._mount_of(folder) == self.v2

    def _mount_of(self, folder: str) -> str:
        return max((mount for mount in self.mounts if folder.startswith(mount + "/")), key=len)


def check_path(path: str) -> None:
    """Raise ValueError for what is no relative path below a hierarchy: never may `..` or nothing name a host's own."""
    if not path or any(part in ("", ".", "..") for part in path.split("/")):
        raise ValueError(f"no relative cgroup path: {path!r}")


def detect(mountinfo: str) -> Hierarchies:
    """The hierarchies in a mount table (proc_pid_mountinfo(5)); the first mount of each counts."""
    v2, v1 = None, dict[str, str]()
    for line in mountinfo.splitlines():
        fields, _, tail = line.partition(" - ")
        fstype, _, options = tail.partition(" ")
        point = fields.split(" ")[4].replace("\\040", " ")
        if fstype == "cgroup2":
            v2 = v2 or point
        elif fstype == "cgroup":
            # Names of controllers stand among the file system's options; others, as `xattr`, are in no list of ours.
            for option in options.split(" ")[-1].split(","):
                name = "systemd" if option == "name=systemd" else option
                if name in _V1:
                    v1.setdefault(name, point)
    controllers = frozenset[str]()
    if v2 is not None:
        try:
            controllers = frozenset(read(f"{v2}/cgroup.controllers").split())
        except FileNotFoundError:
            pass
    return Hierarchies(v2, controllers, v1)


_current: Hierarchies | None = None


def current() -> Hierarchies:
    """This host's hierarchies, looked up once.

    Raises:
        HostLacks: there is none.
    """
    global _current
    if _current is None:
        _current = detect(read("/proc/self/mountinfo"))
        if not _current.mounts:
            from podium.errors import HostLacks

            _current = None
            raise HostLacks(
                "no cgroup hierarchy is mounted",
                hint="mount one: 'mount -t cgroup2 none /sys/fs/cgroup' (systemd does)",
            )
    return _current


def read(path: str) -> str:
    """A file of a cgroup. Raises FileNotFoundError, also when the cgroup is removed while the file is open."""
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as f:
            return f.read()
    except OSError as e:
        raise _named(e, path) from None


def write(path: str, text: str) -> None:
    """Write a file of a cgroup in one write(2), never creating it: where the kernel has no such file there is none."""
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, text.encode())
    except OSError as e:
        raise _named(e, path, f" (writing {text!r})") from None
    finally:
        os.close(fd)


def _named(error: OSError, path: str, what: str = "") -> OSError:
    """The error with the path in it; ENODEV is what a file says whose cgroup was removed after it was opened."""
    number = errno.ENOENT if error.errno == errno.ENODEV else error.errno
    return OSError(number, f"{error.strerror}{what}", path)


def make(mount: str, path: str, at: Hierarchies) -> None:
    """Make a cgroup in the hierarchy at `mount`, with its parents; what is there already stays."""
    check_path(path)
    # Whoever removes the last pod's cgroup removes the parent, perhaps between our two steps.
    while not _make(mount, path, at):
        pass


def _make(mount: str, path: str, at: Hierarchies) -> bool:
    """One try; False when a parent vanished meanwhile."""
    if mount not in (at.v2, at.v1.get("cpuset")):  # where making the cgroup is all that there is to do
        try:
            os.mkdir(f"{mount}/{path}", 0o755)
        except FileExistsError:
            return True
        except FileNotFoundError:
            pass  # a parent is to be made first
        else:
            return True
    folder = mount
    for part in path.split("/"):
        if mount == at.v2:
            _pass_down(folder)
        parent, folder = folder, f"{folder}/{part}"
        try:
            os.mkdir(folder, 0o755)
        except FileExistsError:
            pass
        except FileNotFoundError:
            if parent == mount:
                raise
            return False
        if mount == at.v1.get("cpuset"):
            _copy_cpuset(parent, folder)
    return True


def _pass_down(folder: str) -> None:
    """Give the controllers that a v2 cgroup has to its children, those that can be; `apply` names what is missing."""
    try:
        given = read(f"{folder}/cgroup.subtree_control").split()
        available = read(f"{folder}/cgroup.controllers").split()
    except FileNotFoundError:
        return
    for name in _CONTROLLERS:
        if name in available and name not in given:
            try:
                write(f"{folder}/cgroup.subtree_control", f"+{name}")
            except OSError as e:
                # It holds processes (EBUSY), is not delegated (EACCES, EPERM), or is threaded (EOPNOTSUPP, EINVAL).
                if e.errno not in (errno.EBUSY, errno.EACCES, errno.EPERM, errno.EOPNOTSUPP, errno.EINVAL):
                    raise


def _copy_cpuset(parent: str, folder: str) -> None:
    """A new v1 cpuset is empty, and takes no process before it has processors and memory nodes."""
    for name in ("cpuset.cpus", "cpuset.mems"):
        if not read(f"{folder}/{name}").strip():
            write(f"{folder}/{name}", read(f"{parent}/{name}"))


def counters(path: str) -> dict[str, int]:
    """A flat keyed file, such as memory.events."""
    return {key: int(value) for key, _, value in (line.partition(" ") for line in read(path).splitlines())}


def below(folder: str) -> list[str]:
    """A cgroup and those in it, each before what it holds; empty if it is gone."""
    try:
        with os.scandir(folder) as entries:
            inner = [entry.path for entry in entries if entry.is_dir(follow_symlinks=False)]
    except FileNotFoundError:
        return []
    return [folder, *(path for each in inner for path in below(each))]
