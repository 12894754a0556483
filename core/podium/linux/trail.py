"""Walking a file tree of any depth with few open files: a stack of folders, of which the nearest are kept open."""

from __future__ import annotations

import errno
import os

from podium.errors import InUse
from podium.linux import resolve

_KEPT_OPEN = 32
_RESOLVE = resolve.RESOLVE_NO_XDEV | resolve.RESOLVE_NO_SYMLINKS | resolve.RESOLVE_NO_MAGICLINKS


def open_folder(dir_fd: int, name: str, flags: int = os.O_RDONLY) -> int:
    """Opens the folder `name` in `dir_fd`, never through a link and never onto another mount (EXDEV)."""
    return resolve.open_at(dir_fd, name, flags | os.O_DIRECTORY | os.O_NOFOLLOW, 0, _RESOLVE)


class Trail:
    """The folders from where a walk began down to the one where it is; close it when done."""

    __slots__ = ("_fds", "_identities", "names")

    def __init__(self) -> None:
        self.names: list[str] = []
        self._fds: list[int] = []
        self._identities: list[tuple[int, int]] = []

    def __len__(self) -> int:
        return len(self.names)

    @property
    def fd(self) -> int:
        """The folder where the walk is."""
        return self._fds[-1]

    @property
    def path(self) -> str:
        """Where the walk is, for messages."""
        return "/".join(self.names)

    def down(self, name: str, fd: int) -> None:
        """Goes into folder `name`, open as `fd`, which the trail closes from now on."""
        self.names.append(name)
        self._fds.append(fd)
        self._identities.append((0, 0))
        far = len(self._fds) - 1 - _KEPT_OPEN
        if far >= 0:
            self._close(far)

    def _close(self, index: int) -> None:
        # Only a folder that has to be found again through ".." needs to be recognised.
        status = os.fstat(self._fds[index])
        self._identities[index] = (status.st_dev, status.st_ino)
        os.close(self._fds[index])
        self._fds[index] = -1

    def up(self) -> str:
        """Goes back to the folder above, and returns the name of the one that it left.

        Raises:
            InUse: somebody moved the folder elsewhere meanwhile.
        """
        if len(self._fds) > 1 and self._fds[-2] < 0:
            above = open_folder(self.fd, "..")
            status = os.fstat(above)
            if (status.st_dev, status.st_ino) != self._identities[-2]:
                os.close(above)
                raise InUse(
                    f"{self.path} was moved while podium worked on it",
                    hint="end what changes files there, then try again",
                    subject=self.path,
                )
            self._fds[-2] = above
        os.close(self._fds.pop())
        self._identities.pop()
        return self.names.pop()

    def close(self) -> None:
        """Closes what is open."""
        for fd in self._fds:
            if fd >= 0:
                os.close(fd)
        self._fds.clear()


def is_vanished(error: OSError) -> bool:
    """Whether a folder could not be opened because it is gone, or is no folder any more."""
    return error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)
