"""Extended attributes of unpacked files, and which of them are not kept."""

from __future__ import annotations

import errno
import os
from typing import Any

# The host's, or overlayfs's own: an image that brings them could redirect a layer, or label its files as it likes.
_NOT_KEPT = ("trusted.overlay.", "user.overlay.", "security.selinux", "security.ima", "security.evm")
_TOLD = 100  # names


class Xattrs:
    """Sets them.

    Attributes:
        dropped: names of those that were not kept, and how often.
    """

    def __init__(self) -> None:
        self.dropped: dict[str, int] = {}

    def set(self, where: int | str, xattrs: dict[str, bytes], *, known: bool = False) -> None:
        """Set those of a descriptor, or of a path itself; `known`: it was there before, and loses the others."""
        follow: Any = {} if isinstance(where, int) else {"follow_symlinks": False}
        if known:
            for name in os.listxattr(where, **follow):
                if name not in xattrs:
                    os.removexattr(where, name, **follow)
        for name, value in xattrs.items():
            if name.startswith(_NOT_KEPT):
                self._drop(name)
                continue
            try:
                os.setxattr(where, name, value, **follow)
            except OSError as e:
                if e.errno not in (errno.ENOTSUP, errno.EPERM):
                    raise
                self._drop(name)

    def _drop(self, name: str) -> None:
        if name in self.dropped or len(self.dropped) < _TOLD:
            self.dropped[name] = self.dropped.get(name, 0) + 1
