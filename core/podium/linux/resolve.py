"""Paths inside a root that is not to be trusted: resolved by the kernel as if it were `/`, never leaving it.

What comes back is a descriptor, which no rename or new link can make mean something else (openat2(2), Linux 5.6).
"""

from __future__ import annotations

import errno
import os

from podium.errors import HostLacks
from podium.linux import syscalls

RESOLVE_NO_XDEV = 0x1
RESOLVE_NO_MAGICLINKS = 0x2
RESOLVE_NO_SYMLINKS = 0x4
RESOLVE_BENEATH = 0x8
RESOLVE_IN_ROOT = 0x10

# As many links as the kernel follows in one path (path_resolution(7)).
_MAX_LINKS = 40
# The kernel gives up with EAGAIN when anything on the machine was renamed while it looked at a "..".
_MAX_ATTEMPTS = 1000


def open_at(dir_fd: int, path: str, flags: int, mode: int, resolve: int) -> int:
    """openat2(2), tried again where the kernel asks for it.

    Raises:
        HostLacks: the kernel is older than 5.6.
        OSError: of the call.
    """
    attempt = 0
    while True:
        try:
            return syscalls.openat2(dir_fd, path, flags, mode, resolve)
        except OSError as error:
            if error.errno == errno.ENOSYS:
                raise HostLacks(
                    f"can't open {path} safely: this kernel has no openat2",
                    hint="podium needs Linux 5.6 or newer",
                    subject=path,
                ) from error
            attempt += 1
            if error.errno != errno.EAGAIN or attempt == _MAX_ATTEMPTS:
                raise


def open_in_root(root_fd: int, path: str, flags: int, mode: int = 0) -> int:
    """Opens `path` as a process whose root is `root_fd` would: absolute links and `..` stay inside.

    Raises:
        HostLacks: the kernel is older than 5.6.
        OSError: of openat2(2); ELOOP also for a magic link of /proc.
    """
    return open_at(root_fd, path, flags, mode, RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS)


def open_beneath(root_fd: int, path: str, flags: int, mode: int = 0) -> int:
    """Opens `path` below `root_fd`, and refuses with EXDEV what leads out of it, an absolute path too.

    Raises:
        HostLacks: the kernel is older than 5.6.
        OSError: of openat2(2).
    """
    return open_at(root_fd, path, flags, mode, RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS)


def open_dir(path: str) -> int:
    """An O_PATH descriptor of the folder `path`, which is trusted: links in it are followed."""
    return os.open(path, os.O_PATH | os.O_DIRECTORY)


def make_dirs_in_root(root_fd: int, path: str, mode: int = 0o755) -> int:
    """Makes the folders of `path` that are missing (mode less the umask) and returns an O_PATH descriptor of the last.

    Where a link leads to something missing, that is what is made, inside the root.

    Raises:
        HostLacks: the kernel is older than 5.6.
        OSError: of openat2(2) or mkdir(2): NotADirectoryError when a file is in the way, ELOOP for links in a circle.
    """
    return _make(root_fd, path, mode, is_dir=True)


def ensure_mountpoint(root_fd: int, path: str, is_dir: bool) -> int:
    """An O_PATH descriptor of what can be mounted on at `path`: a folder, or something else, made empty if missing.

    Raises:
        HostLacks: the kernel is older than 5.6.
        IsADirectoryError, NotADirectoryError: there is the wrong kind of thing.
        OSError: of openat2(2), mkdir(2) or open(2).
    """
    fd = _make(root_fd, path, 0o755, is_dir)
    if not is_dir and os.path.isdir(f"/proc/self/fd/{fd}"):
        os.close(fd)
        raise IsADirectoryError(errno.EISDIR, f"{os.strerror(errno.EISDIR)} (mount point)", path)
    return fd


def _parts(path: str) -> list[str]:
    """The components of a path, last first."""
    return [part for part in reversed(path.split("/")) if part not in ("", ".")]


def _make(root_fd: int, path: str, mode: int, is_dir: bool) -> int:
    """Makes what is missing of `path`: folders, and as the last an empty file unless `is_dir`."""
    last_flags = os.O_PATH | (os.O_DIRECTORY if is_dir else 0)
    try:
        return open_in_root(root_fd, path, last_flags)
    except FileNotFoundError:
        pass
    pending, done, links = _parts(path), ".", 0
    while pending:
        name = pending.pop()
        here = f"{done}/{name}"
        wants_file = not pending and not is_dir
        try:
            os.close(open_in_root(root_fd, here, os.O_PATH | (0 if wants_file else os.O_DIRECTORY)))
            done = here
            continue
        except FileNotFoundError:
            pass
        parent = open_in_root(root_fd, done, os.O_PATH | os.O_DIRECTORY)
        try:
            if wants_file:
                os.close(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o644, dir_fd=parent))
            else:
                os.mkdir(name, mode, dir_fd=parent)
            done = here
        except FileExistsError as error:
            # A link that leads nowhere yet, or what somebody else made just now.
            links += 1
            if links > _MAX_LINKS:
                raise OSError(errno.ELOOP, f"{os.strerror(errno.ELOOP)} (openat2)", path) from error
            target = _link_target(name, parent)
            if target is None:
                pending.append(name)
                continue
            if target.startswith("/"):
                done = "."
            pending += _parts(target)
        finally:
            os.close(parent)
    return open_in_root(root_fd, done, last_flags)


def _link_target(name: str, dir_fd: int) -> str | None:
    """Where the link `name` leads, or None if it is no link (any more)."""
    try:
        return os.readlink(name, dir_fd=dir_fd)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOENT):
            raise
        return None
