"""Who is told of events: plugins of the entry-point group `podium.hooks`, and TOML files.

`wake` is on the path of most transitions, so where there is nobody it costs a few stat(2): whether a plugin is
installed is remembered in cache/, under what the folders of sys.path looked like when it was found out.
"""

from __future__ import annotations

import os
import sys

from podium.events import log
from podium.linux.lockfile import locked
from podium.paths import DataDir
from podium.quickjson import dumps, loads

GROUP = "podium.hooks"
MOUNTS = 3  # descriptor of the mount namespace in the process that delivers


def toml_files(folder: str) -> list[str]:
    """Paths of the TOML hooks, by name."""
    try:
        return [os.path.join(folder, n) for n in sorted(os.listdir(folder)) if n.endswith(".toml") and n[0] != "."]
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return []


def scan() -> list[tuple[str, str, str]]:
    """Name, entry and distribution of each installed event plugin."""
    from importlib.metadata import entry_points

    return sorted({(p.name, p.value, p.dist.name if p.dist else "unknown") for p in entry_points(group=GROUP)})


def any_plugin(data: DataDir) -> bool:
    """Whether an event plugin is installed."""
    key = [sys.prefix]
    for folder in sys.path[1:]:  # the first is where the command itself is, or the working directory
        try:
            key.append(f"{folder}:{os.stat(folder or '.').st_mtime_ns}")
        except OSError:
            continue
    path = os.path.join(data.cache, "event-plugins.json")
    try:
        with open(path, "rb") as f:
            known = loads(f.read(1 << 20))
        if known["key"] == key or sys.flags.no_site:
            return bool(known["any"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        pass
    if sys.flags.no_site:
        return True  # in a pin, from where today's plugins can't be seen; who delivers can
    found = bool(scan())
    from podium.linux.files import write_atomic

    try:
        write_atomic(path, dumps({"key": key, "any": found}, (",", ":")).encode(), durable=False)
    except OSError:
        pass  # it is only a cache
    return found


def wake(data: DataDir, hooks: str, mounts: int = -1) -> None:
    """Start a process that delivers what was logged, unless there is nobody to deliver to. Raises nothing.

    It is not our child for long: it forks, so that a supervisor has nobody to reap. `mounts` is a descriptor of the
    mount namespace that it goes to, if that is not ours.
    """
    try:
        last = log.last(data)  # before the look at who is there: who comes just then is told of what comes after it
        if log.delivered(data) >= last:
            return
        if not toml_files(hooks) and not any_plugin(data):
            _pass_over(data, last)
            return
        argv = [sys.executable, "-m", "podium.events.deliver", data.root, hooks]
        null = [(os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDWR, 0)]
        actions = [*null, (os.POSIX_SPAWN_DUP2, 0, 1), (os.POSIX_SPAWN_DUP2, 0, 2)]
        if mounts >= 0:
            actions.append((os.POSIX_SPAWN_DUP2, mounts, MOUNTS))
            argv.append("mounts")
        env = {k: v for k, v in os.environ.items() if not k.startswith("PODIUM_TRACE_")}
        pid = os.posix_spawn(sys.executable, argv, env, file_actions=actions)
        os.waitpid(pid, 0)
    except (OSError, ChildProcessError):
        pass


def advance(data: DataDir, seq: int) -> None:
    """Everybody was told of event `seq`; the caller holds the lock of who delivers.

    Written over the old number, in the same width: to make a file and rename it takes several times as long, and this
    is done for every transition.
    """
    fd = os.open(os.path.join(data.events, log.CURSOR), os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        os.pwrite(fd, b"%020d\n" % seq, 0)
    finally:
        os.close(fd)


def lock(data: DataDir) -> str:
    """Path of the file that whoever delivers holds locked."""
    return os.path.join(data.events, "deliver")


def _pass_over(data: DataDir, last: int) -> None:
    """Nobody is to be told of what was logged so far, also not whoever is installed later."""
    try:
        with locked(lock(data), wait=False):
            if log.delivered(data) < last:
                advance(data, last)
    except BlockingIOError:
        pass  # somebody delivers, so there was somebody to deliver to
