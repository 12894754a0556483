"""Removing a file tree: by descriptor, following no link, crossing no mount, to any depth.

What it is given may be hostile and may change meanwhile (CVE-2021-3997, k8s#7317): every step is relative to a folder
that is open, and that was opened without following a link or entering another mount.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import sys

from podium.contexts import contextmanager
from podium.errors import InUse
from podium.linux import resolve, syscalls
from podium.linux.copying import copy_tree
from podium.linux.syscalls import AT_EMPTY_PATH, AT_SYMLINK_NOFOLLOW
from podium.linux.trail import Trail, is_vanished, open_folder

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import NoReturn

__all__ = ["copy_tree", "remove_tree"]

# linux/fs.h; the argument is an int, whatever the numbers' encoded size says (ioctl_iflags(2)).
_FS_IOC_GETFLAGS = 0x80086601
_FS_IOC_SETFLAGS = 0x40086602
_FS_APPEND_OR_IMMUTABLE = 0x30

# How often a folder is looked through again because something new appeared in it.
_MAX_ROUNDS = 16


def remove_tree(parent: int | str, name: str) -> None:
    """Removes `name` in the folder `parent`, and all below if it is a folder; nothing there is fine.

    Folders without permissions, immutable and append-only files are removed, names may be anything. What a mount point
    covers, and other names of a hard link, are left exactly as they were. Removal goes folder by folder: when it is
    refused, what other folders held may be gone already.

    Args:
        parent: a path that is trusted, or a descriptor.
        name: one component.

    Raises:
        InUse: a folder has a mount point in it; of that folder nothing was removed. Or files are added or moved all
            the time.
        HostLacks: the kernel is older than 5.6.
        OSError: of the call that failed, with the path below `parent`.
    """
    if isinstance(parent, int):
        _Removal(parent).remove(name)
        return
    fd = os.open(parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        _Removal(fd, parent).remove(name)
    finally:
        os.close(fd)


class _Removal:
    """One removal: where it is, and what is still to do in each folder on the way there."""

    def __init__(self, parent_fd: int, parent_path: str = "") -> None:
        self.parent_fd = parent_fd
        self.parent_path = parent_path
        self.trail = Trail()
        self.folders: list[list[str]] = []
        self.rounds: list[int] = []
        self.is_bound_by_modes = os.geteuid() != 0
        self.mount_id = syscalls.mount_id(parent_fd, "", AT_EMPTY_PATH)

    @property
    def fd(self) -> int:
        return self.trail.fd if self.trail else self.parent_fd

    def path(self, name: str) -> str:
        return os.path.join(self.parent_path, *self.trail.names, name)

    def remove(self, name: str) -> None:
        try:
            self.refuse_mount(name)
            self.enter(name)
            while self.trail:
                if self.folders[-1]:
                    self.enter(self.folders[-1].pop())
                else:
                    self.leave()
        finally:
            self.trail.close()

    def refuse_mount(self, name: str) -> None:
        """Raises when `name` in the present folder is a mount point; before Linux 5.8 `enter` and `unlink` notice."""
        try:
            number = syscalls.mount_id(self.fd, name, AT_SYMLINK_NOFOLLOW)
        except FileNotFoundError:
            return
        if number != self.mount_id:
            self.refuse(name)

    def refuse(self, name: str) -> NoReturn:
        path = self.path(name)
        raise InUse(
            f"{path} is a mount point, which podium does not remove",
            hint="unmount it, then try again",
            subject=path,
        )

    def enter(self, name: str) -> None:
        """Opens folder `name` and removes all in it but folders; what is no folder is removed."""
        try:
            fd = self.open(name)
        except OSError as error:
            if error.errno == errno.EXDEV:
                self.refuse(name)
            if not is_vanished(error):
                raise
            if error.errno != errno.ENOENT:
                self.unlink(name)
            return
        self.trail.down(name, fd)
        self.folders.append([])
        self.rounds.append(0)
        self.clear()

    def open(self, name: str) -> int:
        """Opens folder `name`, with the permissions that emptying it takes."""
        try:
            fd = open_folder(self.fd, name)
        except PermissionError:
            self.grant(name)
            fd = open_folder(self.fd, name)
        if self.is_bound_by_modes and os.fstat(fd).st_mode & 0o700 != 0o700:
            os.fchmod(fd, 0o700)
        return fd

    def grant(self, name: str) -> None:
        """Gives the owner all permissions on folder `name`, which can't be opened for want of them."""
        fd = open_folder(self.fd, name, os.O_PATH)
        try:
            os.chmod(f"/proc/self/fd/{fd}", 0o700)
        finally:
            os.close(fd)

    def clear(self) -> None:
        """Removes all that is no folder from the present one, and notes its folders."""
        folders = self.folders[-1]
        others: list[str] = []
        with os.scandir(self.fd) as entries:
            for entry in entries:
                (folders if entry.is_dir(follow_symlinks=False) else others).append(entry.name)
        # All are looked at before the first is removed.
        for name in folders:
            self.refuse_mount(name)
        for name in others:
            self.refuse_mount(name)
        fd = self.fd
        for name in others:
            try:
                os.unlink(name, dir_fd=fd)
            except OSError:
                self.unlink(name)

    def unlink(self, name: str) -> None:
        """Removes what is no folder, whatever stands in the way but a mount."""
        try:
            try:
                os.unlink(name, dir_fd=self.fd)
            except PermissionError:
                with self.without_flags(name):
                    os.unlink(name, dir_fd=self.fd)
        except FileNotFoundError:
            pass
        except IsADirectoryError:
            # It was put there since; the folder it is in will be found not empty, and be looked through again.
            pass
        except OSError as error:
            self.fail(error, "unlink", name)

    def leave(self) -> None:
        """Goes up and removes the folder that was emptied, or looks through it again if it is not empty."""
        rounds = self.rounds.pop()
        self.folders.pop()
        name = self.trail.up()
        try:
            try:
                os.rmdir(name, dir_fd=self.fd)
            except PermissionError:
                with self.without_flags(name):
                    os.rmdir(name, dir_fd=self.fd)
        except FileNotFoundError:
            pass
        except NotADirectoryError:
            self.unlink(name)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST) or rounds == _MAX_ROUNDS:
                self.fail(error, "rmdir", name)
            depth = len(self.trail)
            self.enter(name)
            if len(self.trail) > depth:
                self.rounds[-1] = rounds + 1

    @contextmanager
    def without_flags(self, name: str) -> Iterator[None]:
        """Takes the flags that forbid removal off `name` and the folder it is in, if that is part of the tree.

        A file that has another name gets them back.
        """
        if self.trail:
            _take_flags(self.fd)
        pinned = resolve.open_at(self.fd, name, os.O_PATH | os.O_NOFOLLOW, 0, resolve.RESOLVE_NO_XDEV)
        try:
            mode = os.fstat(pinned).st_mode
            if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
                yield
                return
            # Opened through the descriptor, since the name may be a device by now, which opening could set off.
            fd = os.open(f"/proc/self/fd/{pinned}", os.O_RDONLY | os.O_NONBLOCK)
        finally:
            os.close(pinned)
        try:
            flags = _take_flags(fd)
            yield
            if flags and os.fstat(fd).st_nlink and stat.S_ISREG(mode):
                _set_flags(fd, flags)
        finally:
            os.close(fd)

    def fail(self, error: OSError, call: str, name: str) -> NoReturn:
        if error.errno == errno.EBUSY:
            self.refuse(name)
        raise OSError(error.errno, f"{error.strerror} ({call})", self.path(name)) from error


def _take_flags(fd: int) -> int:
    """Clears append-only and immutable; returns the flags as they were, or 0 if there was nothing to clear."""
    try:
        flags = int.from_bytes(fcntl.ioctl(fd, _FS_IOC_GETFLAGS, bytes(8))[:4], sys.byteorder)
    except OSError as error:
        if error.errno in (errno.ENOTTY, errno.EOPNOTSUPP, errno.EINVAL):
            return 0
        raise
    if not flags & _FS_APPEND_OR_IMMUTABLE:
        return 0
    _set_flags(fd, flags & ~_FS_APPEND_OR_IMMUTABLE)
    return flags


def _set_flags(fd: int, flags: int) -> None:
    fcntl.ioctl(fd, _FS_IOC_SETFLAGS, flags.to_bytes(4, sys.byteorder) + bytes(4))
