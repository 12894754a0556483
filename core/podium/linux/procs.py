"""Processes: a process is its pid, its start time and the boot id, and is signalled through a pidfd only.

A pid alone is reused; with the start time it is not, within a boot. See proc_pid_stat(5), pidfd_open(2).
"""

from __future__ import annotations

import errno
import os

from podium.named import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

_boot_id = ""


def boot_id() -> str:
    """The kernel's random id of this boot, read once (random(4))."""
    global _boot_id
    if not _boot_id:
        with open("/proc/sys/kernel/random/boot_id", encoding="utf-8") as f:
            _boot_id = f.read().strip()
    return _boot_id


class Process(NamedTuple):
    """A process that can be recognised.

    Attributes:
        pid: in the namespace of whoever looked it up.
        start_time: clock ticks since boot (field 22 of proc_pid_stat(5)).
        boot_id: of the boot that it runs in.
    """

    pid: int
    start_time: int
    boot_id: str

    def to_json(self) -> dict[str, Any]:
        """As it is kept in records."""
        return self._asdict()

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Process:
        """The process of a record; raises KeyError, TypeError or ValueError when a field is missing or wrong."""
        return cls(int(data["pid"]), int(data["start_time"]), str(data["boot_id"]))


def _stat(pid: int) -> tuple[str, int] | None:
    """State and start time of a process; None if there is none."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as f:
            text = f.read()
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The name is in parentheses and may itself hold some, and blanks.
    fields = text[text.rindex(b")") + 2 :].split()
    return fields[0].decode(), int(fields[19])


def identify(pid: int) -> Process | None:
    """The process that has this pid now (a zombie too), or None."""
    found = _stat(pid) if pid > 0 else None
    return None if found is None else Process(pid, found[1], boot_id())


def alive(process: Process) -> bool:
    """Whether it still runs: a zombie does not, nor does another process that got its pid."""
    if process.boot_id != boot_id() or process.pid <= 0:
        return False
    found = _stat(process.pid)
    return found is not None and found[1] == process.start_time and found[0] not in ("Z", "X", "x")


def open_pidfd(process: Process) -> int | None:
    """A pidfd of exactly this process, or None if it is gone; the caller closes it.

    The identity is looked at after the descriptor was opened: from then on the descriptor can mean no other process.
    """
    from podium.linux.syscalls import pidfd_open

    if process.boot_id != boot_id() or process.pid <= 0:
        return None
    try:
        fd = pidfd_open(process.pid)
    except OSError as e:
        # EINVAL: the pid is a thread's, so not that of the process which was recorded (EINVAL before 6.9, then ENOENT)
        if e.errno in (errno.ESRCH, errno.EINVAL, errno.ENOENT):
            return None
        raise
    if identify(process.pid) != process:
        os.close(fd)
        return None
    return fd


def signal_process(process: Process, sig: int) -> bool:
    """Send a signal to exactly this process; False if it is gone."""
    from podium.linux.syscalls import pidfd_send_signal

    fd = open_pidfd(process)
    if fd is None:
        return False
    try:
        pidfd_send_signal(fd, sig)
    except ProcessLookupError:
        return False
    finally:
        os.close(fd)
    return True


def wait_end(process: Process, timeout: float | None) -> bool:
    """Wait until it has ended (it may still be a zombie), whosever child it is.

    Args:
        process: which.
        timeout: seconds; None: for ever.

    Returns:
        Whether it has.
    """
    import select

    fd = open_pidfd(process)
    if fd is None:
        return True
    try:
        poll = select.poll()
        poll.register(fd, select.POLLIN)
        return bool(poll.poll(None if timeout is None else max(0, timeout) * 1000))
    finally:
        os.close(fd)


def die_with_parent(sig: int, parent: int) -> None:
    """Get `sig` when the parent ends (PR_SET_PDEATHSIG), and at once if it has ended already.

    A change of user, group or capabilities forgets this: call it after them.

    Args:
        sig: number of the signal.
        parent: pid of the parent as this process sees it; 0 when it is outside of this process's pid namespace.
    """
    import prctl

    prctl.set_pdeathsig(sig)
    if os.getppid() != parent:
        os.kill(os.getpid(), sig)


def processes_rooted_below(path: str) -> list[Process]:
    """The processes whose root, working folder or program is at or below `path`, in whatever mount namespace.

    A process in a mount namespace of its own may have as its root an overlay whose upper folder is below `path`, or a
    bind mount of something below it; its mount table tells.
    """
    path = os.path.realpath(path)
    place = _place(path)
    own = _link("/proc/self/ns/mnt")
    found = []

    def is_inside(entry: str) -> bool:
        exe = _link(f"/proc/{entry}/exe")
        if not exe:
            return False  # a thread of the kernel's, or one that has ended and has no folders any more
        if _below(exe, path) or any(_below(_link(f"/proc/{entry}/{what}"), path) for what in ("root", "cwd")):
            return True
        return _link(f"/proc/{entry}/ns/mnt") not in ("", own) and _root_mount_below(entry, path, place)

    for entry in os.listdir("/proc"):
        if not entry.isdigit() or int(entry) == os.getpid() or not is_inside(entry):
            continue
        process = identify(int(entry))
        if process is not None and is_inside(entry) and alive(process):  # else it was another one's pid until now
            found.append(process)
    return found


def _link(path: str) -> str:
    try:
        return os.readlink(path)
    except OSError:  # gone, or a kernel thread
        return ""


def _below(target: str, path: str) -> bool:
    target = target.removesuffix(" (deleted)")
    return target == path or target.startswith(path.rstrip("/") + "/")


def _mounts(pid: str) -> list[tuple[str, str, str, str]]:
    """(device, root, mount point, options of the file system) of each mount that the process sees."""
    try:
        with open(f"/proc/{pid}/mountinfo", encoding="utf-8", errors="surrogateescape") as f:
            lines = f.read().splitlines()
    except OSError:
        return []
    rows = []
    for line in lines:
        fields, _, tail = line.partition(" - ")
        _, _, device, root, point = fields.split(" ")[:5]
        rows.append((device, _unescape(root), _unescape(point), _unescape(tail.split(" ", 2)[-1])))
    return rows


def _unescape(text: str) -> str:
    for code, char in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        text = text.replace(code, char)
    return text


def _place(path: str) -> tuple[str, str]:
    """Where `path` is: device and path within its file system."""
    best = ("", "", "")
    for device, root, point, _ in _mounts("self"):
        if _below(path, point) and len(point) >= len(best[2]):
            best = (device, root, point)
    device, root, point = best
    return device, os.path.normpath(os.path.join(root, os.path.relpath(path, point or "/")))


def _root_mount_below(pid: str, path: str, place: tuple[str, str]) -> bool:
    """Whether what the process has mounted as its root (the last one on `/`) comes from below `path`."""
    roots = [mount for mount in _mounts(pid) if mount[2] == "/"]
    if not roots:
        return False
    device, root, _, options = roots[-1]
    if device == place[0] and _below(root, place[1]):
        return True
    return any(_below(option.removeprefix("upperdir="), path) for option in options.split(",") if "upperdir=" in option)


def resources(pids: Iterable[int]) -> tuple[int, float]:
    """What processes use together; those that are gone are left out.

    Returns:
        Resident memory in bytes (pages that several of them share count for each), CPU time in seconds.
    """
    import psutil

    memory, cpu = 0, 0.0
    for pid in pids:
        try:
            process = psutil.Process(pid)
            with process.oneshot():
                memory += process.memory_info().rss
                times = process.cpu_times()
                cpu += times.user + times.system
        except (psutil.NoSuchProcess, psutil.ZombieProcess):
            continue
    return memory, cpu
