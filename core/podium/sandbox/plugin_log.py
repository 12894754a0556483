"""A pod's plugin.log: what its plugin prints, and what it has started does. Of bounded size, as the apps' logs are.

Others have it open, too, as their standard error, and outlive one another: put aside by a rename, as an app's log is,
it would grow on where nobody looks. So its end is copied to plugin.log.1, and it is emptied. Whoever prints there calls
`bound`: a worker around each hook, a supervisor whenever it wakes. What can be made to print for ever while its
supervisor sleeps gets the end of a `PluginPump` as its standard error.
"""

from __future__ import annotations

import os

from podium.sandbox.stdio import OLDER, Pump

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Self

NAME = "plugin.log"
MAX_BYTES = 1 << 20  # of a file; there are at most two


def become(folder: str) -> None:
    """Have what this process prints from now on kept with the pod in `folder`. No error: no log is no reason not to
    stop or collect a pod.
    """
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    try:
        log = os.open(os.path.join(folder, NAME), flags, 0o600)
    except OSError:
        return
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.close(log)
    bound()


def bound(limit: int = MAX_BYTES) -> None:
    """If this process prints to a plugin.log that has become too large, put its end aside and empty it."""
    size = os.fstat(1).st_size
    if size <= limit:
        return
    path = os.readlink("/proc/self/fd/1")  # the pod's folder may have moved
    if os.path.basename(path) != NAME:
        return
    try:
        _put_aside(path, size, limit)
    except OSError:
        pass  # a full disk: better none of it than all of the disk
    os.ftruncate(1, 0)


def _put_aside(path: str, size: int, limit: int) -> None:
    from podium.linux.files import write_atomic

    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        end = os.pread(fd, limit, size - limit)
    finally:
        os.close(fd)
    write_atomic(path + OLDER, end, 0o600, durable=False)


class PluginPump(Pump):
    """Copies what a process prints that a plugin has started: its `app_end` is that process's standard error."""

    @classmethod
    def taken_over(cls, record: dict[str, Any]) -> Self:
        """The pump that `handed_on` told of."""
        return cls._taken_over(record)

    def _take(self, data: bytes) -> None:
        try:
            os.write(1, data)
        except OSError:
            pass  # a full disk is no reason to end a pod
        bound()
