"""Mounts whose files are seen with other owners: mount_setattr(2) with MOUNT_ATTR_IDMAP, Linux 5.12."""

from __future__ import annotations

import os

from podium.linux import mount, syscalls
from podium.linux.signals import signal

MOUNT_ATTR_IDMAP = 0x100000


def user_namespace(base: int, count: int, inside: int = 0) -> int:
    """A descriptor of a new user namespace, whose `count` ids from `inside` on are those from `base` on outside.

    Raises:
        OSError: of unshare(2), or of writing the map (user_namespaces(7)).
    """
    ready, ready_end = os.pipe2(os.O_CLOEXEC)
    pid = os.fork()
    if pid == 0:
        try:
            syscalls.unshare(0x10000000)  # CLONE_NEWUSER
            os.write(ready_end, b"\1")
            signal.pause()
        finally:
            os._exit(1)
    try:
        os.close(ready_end)
        if os.read(ready, 1) != b"\1":
            raise OSError(1, "no user namespace can be made (unshare)")
        for kind in ("uid", "gid"):
            with open(f"/proc/{pid}/{kind}_map", "w", encoding="ascii") as f:
                f.write(f"{inside} {base} {count}")
        return os.open(f"/proc/{pid}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
    finally:
        os.close(ready)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def bind_mapped(source: str, target: str, user_ns: int) -> None:
    """Bind-mount a folder so that what an id owns is seen as owned by what this id of `user_ns` is outside.

    Raises:
        OSError: of open_tree(2), move_mount(2), or mount_setattr(2): EINVAL where the file system can't.
    """
    tree = syscalls.open_tree(syscalls.AT_FDCWD, source, mount.OPEN_TREE_CLONE | mount.OPEN_TREE_CLOEXEC)
    try:
        syscalls.mount_setattr(tree, "", syscalls.AT_EMPTY_PATH, attr_set=MOUNT_ATTR_IDMAP, userns_fd=user_ns)
        mount.attach(tree, target)
    finally:
        os.close(tree)


def can_map(folder: str) -> bool:
    """Whether files of `folder` can be seen with other owners; tried for real, attached nowhere."""
    try:
        user_ns = user_namespace(1 << 19, 1 << 16)
    except OSError:
        return False
    try:
        tree = syscalls.open_tree(syscalls.AT_FDCWD, folder, mount.OPEN_TREE_CLONE | mount.OPEN_TREE_CLOEXEC)
        try:
            syscalls.mount_setattr(tree, "", syscalls.AT_EMPTY_PATH, attr_set=MOUNT_ATTR_IDMAP, userns_fd=user_ns)
        finally:
            os.close(tree)
    except OSError:
        return False
    finally:
        os.close(user_ns)
    return True
