"""Waiting for a folder to change (inotify(7))."""

from __future__ import annotations

import os

from podium.linux import syscalls

IN_MODIFY, IN_MOVED_TO, IN_CREATE = 0x2, 0x80, 0x100


class Watch:
    """A watch on the files in a folder: those written, made, or moved into it. Raises OSError."""

    def __init__(self, folder: str) -> None:
        libc = syscalls.LIBC
        self._fd = _checked(libc.inotify_init1(os.O_CLOEXEC), folder)
        try:
            _checked(libc.inotify_add_watch(self._fd, os.fsencode(folder), IN_MODIFY | IN_MOVED_TO | IN_CREATE), folder)
        except BaseException:
            os.close(self._fd)
            raise

    def __enter__(self) -> Watch:
        return self

    def __exit__(self, *exc: object) -> None:
        os.close(self._fd)

    def wait(self) -> None:
        """Return at the next change, or at once if there was one since the last time."""
        os.read(self._fd, 1 << 14)


def _checked(result: int, folder: str) -> int:
    if result < 0:
        import ctypes

        code = ctypes.get_errno()
        raise OSError(code, f"inotify: {os.strerror(code)}", folder)
    return result
