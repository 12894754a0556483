"""A pod's cgroup: one relative path (`podium/<uuid>`, `podium/<uuid>/<app>`) in the v2 hierarchy and some v1 ones.

It is made in those v1 hierarchies that count or limit something for it. Whatever looks for it, kills or removes it
looks into all: podium 0.1 made it in every one.

What it costs to place a process (measured on Linux 6.18): the first write of cgroup.procs waits 4 to 20 ms for an RCU
grace period, in v1 and v2 alike; further ones within some ms are free. There are two ways without that wait, and `fork`
and `enter` take them: a single thread that writes 0 to v1's `tasks` (0.1 ms for the first, 0.02 ms for each of the
rest), and clone3(2) with CLONE_INTO_CGROUP for v2 (0.5 ms more than fork).

All functions take `at`: other hierarchies than the host's.
"""

from __future__ import annotations

import errno
import os
import time

from podium.contexts import suppress
from podium.errors import HostLacks
from podium.linux import hierarchies
from podium.linux.hierarchies import Hierarchies, below, read, write
from podium.linux.limits import IoLimit as IoLimit
from podium.linux.limits import Limits as Limits
from podium.linux.limits import apply as apply
from podium.linux.limits import missing as missing
from podium.named import NamedTuple
from podium.paths import DEFAULT_CGROUP

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_SIGKILL = 9


def tracking() -> Hierarchies:
    """The v2 hierarchy alone, where there is one: enough to know and kill a group's processes, in no time."""
    at = hierarchies.current()
    return at if at.v2 is None else at._replace(v1={})


def create(path: str, at: Hierarchies | None = None) -> None:
    """Make a cgroup where every pod's is, and where a limit is on what it is in; what is there already stays.

    `apply` makes it in the hierarchies of the limits. See docs/adr/0014-cgroups-where-needed.md.
    """
    at = at or hierarchies.current()
    for mount in at.having(path.rpartition("/")[0]):
        hierarchies.make(mount, path, at)


def enter(path: str, pid: int = 0, at: Hierarchies | None = None) -> None:
    """Move a process into a cgroup, in every hierarchy that it is in.

    Args:
        path: of a cgroup that exists.
        pid: 0: the calling process. It does not matter if it is in it already (after `fork`).
        at: the hierarchies.
    """
    at = at or hierarchies.current()
    single = pid == 0 and os.stat("/proc/self/task").st_nlink == 3  # ".", ".." and one thread
    for mount in at.having(path):
        folder = f"{mount}/{path}"
        if mount != at.v2:
            write(f"{folder}/{'tasks' if single else 'cgroup.procs'}", str(pid))
        elif pid != 0 or not _is_in("self", path, v2=True):
            write(f"{folder}/cgroup.procs", str(pid))


def _is_in(pid: int | str, path: str, v2: bool = False) -> bool:
    """Whether a process is in a cgroup or one in it, in any hierarchy (or exactly in it in the v2 one)."""
    try:
        lines = read(f"/proc/{pid}/cgroup").splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return False
    if v2:
        return any(line.startswith("0::") and line.endswith(f"/{path}") for line in lines)
    return any(f"/{path}/" in f"{line}/" for line in lines)


def fork(path: str, at: Hierarchies | None = None) -> int:
    """os.fork(), where the child is in a v2 cgroup from its birth; it is to call `enter` for the v1 hierarchies.

    Where there is no v2 hierarchy, or the kernel can't (CLONE_INTO_CGROUP: Linux 5.7), it is os.fork() alone, and
    `enter` does it all.
    """
    import prctl  # noqa: F401  (for the child, which may be able to import nothing once it has changed root or user)

    at = at or hierarchies.current()
    if at.v2 is None:
        return os.fork()
    from podium.linux.clone import fork_into

    fd = os.open(f"{at.v2}/{path}", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        return fork_into(fd)
    except OSError as e:
        if e.errno in (errno.ENOSYS, errno.EPERM, errno.EACCES, errno.EINVAL, errno.E2BIG):
            return os.fork()
        raise
    finally:
        os.close(fd)


def expect_moves(at: Hierarchies | None = None) -> None:
    """Let moves of the next some 10 ms be free, whoever makes them: our own wait for the grace period serves them, too.

    For a caller that has nothing to do while another program starts, which is going to move a process. All it does is
    to "move" itself to where it is; where it may not, nothing is gained.
    """
    fd = _own_procs(at or hierarchies.current())
    if fd is not None:
        _move_here(fd, 1)


def expect_moves_soon(at: Hierarchies | None = None) -> None:
    """The same for moves in 20 to 50 ms, for a caller that has other things to do until then: a thread waits.

    A second move, while the first has made them free, makes the time twice as long in which they are.
    """
    from _thread import start_new_thread

    fd = None
    with suppress(HostLacks):
        fd = _own_procs(at or hierarchies.current())
    if fd is not None:
        try:
            start_new_thread(_move_here, (fd, 2))
        except RuntimeError:  # a limit on threads
            os.close(fd)


def _own_procs(at: Hierarchies) -> int | None:
    """Descriptor of the cgroup.procs of this process's own cgroup in the v2 hierarchy, if there is one."""
    try:
        own = next(line for line in read("/proc/self/cgroup").splitlines() if line.startswith("0::"))
        return os.open(f"{at.v2}{own[3:]}/cgroup.procs", os.O_WRONLY | os.O_CLOEXEC) if at.v2 else None
    except (OSError, StopIteration):
        return None


def _move_here(procs_fd: int, times: int) -> None:
    """In a thread, each line is a turn at the interpreter that the others have to wait for."""
    with suppress(OSError):
        for _ in range(times):
            os.write(procs_fd, b"0")
    os.close(procs_fd)


def populated(path: str, at: Hierarchies | None = None) -> bool:
    """Whether any process is in the cgroup or in one in it, in any hierarchy."""
    at = at or hierarchies.current()
    for folder in at.folders(path):
        try:
            if at.is_v2(folder):
                if hierarchies.counters(f"{folder}/cgroup.events")["populated"]:
                    return True
            elif any(_pids(each) for each in below(folder)):
                return True
        except FileNotFoundError:
            continue
    return False


def procs(path: str, at: Hierarchies | None = None) -> list[int]:
    """Pids of the processes in the cgroup and in those in it, in any hierarchy, sorted."""
    at = at or hierarchies.current()
    found = {pid for folder in at.folders(path) for each in below(folder) for pid in _pids(each)}
    return sorted(found - {0})  # 0: outside of our pid namespace


def _pids(folder: str) -> list[int]:
    try:
        return [int(pid) for pid in read(f"{folder}/cgroup.procs").split()]
    except OSError as e:
        if e.errno in (errno.ENOENT, errno.ENODEV, errno.EOPNOTSUPP):  # removed meanwhile; a threaded v2 cgroup
            return []
        raise


def kill(path: str, sig: int = _SIGKILL, timeout: float = 10.0, at: Hierarchies | None = None) -> bool:
    """Send a signal to all processes in the cgroup and in those in it, and wait until there are none.

    SIGKILL reaches what is forked meanwhile too: by cgroup.kill (v2, Linux 5.14), and by being repeated while a freezer
    holds them. Other signals are sent once.

    Args:
        path: of the cgroup; it may be gone.
        sig: number of the signal.
        timeout: seconds to wait; 0: don't.
        at: the hierarchies.

    Returns:
        Whether no process is left.

    Raises:
        WrongState: the caller itself is in it.
    """
    at = at or hierarchies.current()
    if _is_in("self", path):
        from podium.errors import WrongState

        raise WrongState(f"cgroup {path} can't be killed from inside", subject=path)
    if sig != _SIGKILL:
        _signal_all(path, sig, at)
        return _until(lambda: not populated(path, at), timeout)

    def kill_all() -> bool:
        if not populated(path, at):
            return True
        if at.v2 is not None:
            try:
                write(f"{at.v2}/{path}/cgroup.kill", "1")
            except FileNotFoundError:
                pass
        if procs(path, at):
            _set_frozen(path, True, at)
            try:
                _signal_all(path, sig, at)
            finally:
                _set_frozen(path, False, at)
        return not populated(path, at)

    return _until(kill_all, timeout)


def _signal_all(path: str, sig: int, at: Hierarchies) -> None:
    from podium.linux.syscalls import pidfd_open, pidfd_send_signal

    for pid in procs(path, at):
        try:
            fd = pidfd_open(pid)
        except OSError:
            continue  # it has ended
        try:
            if _is_in(pid, path):  # so the descriptor is not that of another process which got its pid
                pidfd_send_signal(fd, sig)
        except ProcessLookupError:
            pass
        finally:
            os.close(fd)


def _until(done: Callable[[], bool], timeout: float) -> bool:
    """Call until it says yes or `timeout` seconds have passed, with pauses from 1 ms to 50 ms."""
    deadline, pause = time.monotonic() + timeout, 0.001
    while not done():
        if time.monotonic() + pause > deadline:
            return False
        time.sleep(pause)
        pause = min(pause * 1.5, 0.05)
    return True


def _set_frozen(path: str, frozen: bool, at: Hierarchies) -> None:
    """By v2, else by the v1 freezer, if there is one (not by both: each waits for what the other has stopped)."""
    ways = []
    if at.v2 is not None:
        ways.append((f"{at.v2}/{path}/cgroup.freeze", "1" if frozen else "0"))
    if "freezer" in at.v1:
        ways.append((f"{at.v1['freezer']}/{path}/freezer.state", "FROZEN" if frozen else "THAWED"))
    for file, text in ways:
        try:
            write(file, text)
        except FileNotFoundError:
            continue
        return


def remove(path: str, timeout: float = 5.0, at: Hierarchies | None = None) -> None:
    """Remove the cgroup from every hierarchy, with those that were made in it; it may be gone, in part or whole.

    The parent that podium makes by default goes too, when it is empty.

    A cgroup can stay busy for a moment after its last process has ended: that is waited for.

    Args:
        path: of the cgroup.
        timeout: seconds.
        at: the hierarchies.

    Raises:
        OSError: EBUSY: there are still processes in it.
    """
    at = at or hierarchies.current()
    parent = path.rpartition("/")[0]
    for folder in at.folders(path):
        if not _until(lambda folder=folder: _rmdir(folder), timeout):  # type: ignore[misc]
            raise OSError(errno.EBUSY, f"{os.strerror(errno.EBUSY)} (rmdir)", folder)
        if parent == DEFAULT_CGROUP:
            try:
                os.rmdir(os.path.dirname(folder))  # podium's own goes with its last pod
            except OSError:
                pass


def _rmdir(folder: str) -> bool:
    try:
        os.rmdir(folder)
    except FileNotFoundError:
        return True
    except OSError as e:
        if e.errno not in (errno.EBUSY, errno.ENOTEMPTY):
            raise
        inner = below(folder)[1:]
        return bool(inner) and all(_rmdir(each) for each in reversed(inner)) and _rmdir(folder)
    return True


class Usage(NamedTuple):
    """What a cgroup and those in it use: memory in bytes, CPU time in seconds; None: no controller counts it."""

    memory_bytes: int | None
    cpu_seconds: float | None


def usage(path: str, at: Hierarchies | None = None) -> Usage:
    """What the cgroup uses now; nothing if it is gone."""
    at = at or hierarchies.current()
    memory, cpu = None, None
    try:
        if "memory" in at.v1:
            memory = int(read(f"{at.v1['memory']}/{path}/memory.usage_in_bytes"))
        elif "memory" in at.v2_controllers:
            memory = int(read(f"{at.v2}/{path}/memory.current"))
    except FileNotFoundError:
        pass
    try:
        if at.v2 is not None:  # counted even without the controller
            cpu = hierarchies.counters(f"{at.v2}/{path}/cpu.stat")["usage_usec"] / 1e6
        elif "cpuacct" in at.v1:
            cpu = int(read(f"{at.v1['cpuacct']}/{path}/cpuacct.usage")) / 1e9
    except FileNotFoundError:
        pass
    return Usage(memory, cpu)


def oom_killed(path: str, at: Hierarchies | None = None) -> bool:
    """Whether the kernel killed a process of the cgroup, or of one in it, for its memory limit."""
    at = at or hierarchies.current()
    folder = at.folder("memory", path)
    if folder is None:
        return False
    name = "memory.events" if at.is_v2(folder) else "memory.oom_control"
    for each in below(folder):
        try:
            if hierarchies.counters(f"{each}/{name}").get("oom_kill"):
                return True
        except FileNotFoundError:
            continue
    return False


def existing(parent: str, at: Hierarchies | None = None) -> set[str]:
    """Names of the cgroups in `parent`, in any hierarchy: those of all pods, in one listing a hierarchy."""
    at = at or hierarchies.current()
    found: set[str] = set()
    for folder in at.folders(parent):
        try:
            with os.scandir(folder) as entries:
                found |= {entry.name for entry in entries if entry.is_dir(follow_symlinks=False)}
        except FileNotFoundError:
            continue
    return found
