"""Files that are there whole or not at all, also after a power cut."""

from __future__ import annotations

import os
import stat

RENAME_NOREPLACE, RENAME_EXCHANGE = 0x1, 0x2


def fsync_dir(path: str) -> None:
    """Makes the entries of folder `path` outlive a crash: those made, renamed and removed (fsync(2))."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def fsync_below(path: str) -> None:
    """Makes folder `path` with all files and folders in it outlive a crash; links are not followed."""
    for name in os.listdir(path):
        each = os.path.join(path, name)
        mode = os.lstat(each).st_mode
        if stat.S_ISDIR(mode):
            fsync_below(each)
        elif stat.S_ISREG(mode):
            fd = os.open(each, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                os.fsync(fd)
            finally:
                os.close(fd)
    fsync_dir(path)


class Writing:
    """A file that is written under another name, and put in its place by `finish`; else nothing is left of it.

    Of several that are begun before the first is finished, all are on their way to the disk: so one commit of the file
    system's journal does for them.

    Raises, as `finish`:
        OSError: of open, write, fsync or rename, with a path in it.
    """

    def __init__(self, path: str, data: bytes, mode: int = 0o644, durable: bool = True) -> None:
        self._path = path
        self._durable = durable
        self._temporary = os.path.join(os.path.dirname(path) or ".", f".tmp-{os.getpid()}-{os.urandom(6).hex()}")
        self._fd = os.open(self._temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        try:
            # A full disk or a quota ends a write early, without an error until the next one.
            left = memoryview(data)
            while left:
                left = left[os.write(self._fd, left) :]
            os.fchmod(self._fd, mode)
            if durable:
                _begin_to_write(self._fd)
        except BaseException as e:
            self.__exit__()
            self._tell(e)
            raise

    def __enter__(self) -> Writing:
        """What was not finished when the block ends is removed."""
        return self

    def __exit__(self, *exc: object) -> None:
        self._close()
        if self._temporary:
            try:
                os.unlink(self._temporary)
            except FileNotFoundError:
                pass

    def finish(self) -> None:
        """Put the file in its place; it is on the disk then, its name is not."""
        try:
            if self._durable:
                os.fsync(self._fd)
        except OSError as e:
            self._tell(e)
        self._close()
        os.rename(self._temporary, self._path)
        self._temporary = ""

    def _close(self) -> None:
        if self._fd >= 0:
            fd, self._fd = self._fd, -1
            os.close(fd)

    def _tell(self, error: BaseException) -> None:
        """Raise an error of the system's with the path that it is about."""
        if isinstance(error, OSError):
            raise OSError(error.errno, error.strerror, self._path) from error


def _begin_to_write(fd: int) -> None:
    """Let a file's data be written while something else is done. It is a hint, so where it can't be, it is not."""
    try:
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)  # Linux writes what is dirty, to be rid of it
    except OSError:
        pass


def write_atomic(path: str, data: bytes, mode: int = 0o644, durable: bool = True, *, sync_folder: bool = True) -> None:
    """Puts a file with exactly these bytes and this mode at `path`; a reader sees the old one or the new one.

    What was there is replaced, a symbolic link itself, not what it points to. Without `durable` nothing is fsynced: fit
    for what a reboot makes meaningless anyway. Without `sync_folder` it is the caller who syncs the folder, once for
    several files.

    Raises:
        OSError: of open, write, fsync or rename, with a path in it; nothing is left behind then.
    """
    with Writing(path, data, mode, durable) as file:
        file.finish()
    if durable and sync_folder:
        fsync_dir(os.path.dirname(path) or ".")


def write_over(path: str, data: bytes) -> bool:
    """Puts these bytes over those of a file, padded with newlines to its size, in the blocks that it has.

    For a disk that is full: a reader at that moment may see half of both, so only for what says whether it is whole.

    Returns:
        Whether it was done; else the file is as it was.
    """
    try:
        fd = os.open(path, os.O_WRONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        about = os.fstat(fd)
        if not stat.S_ISREG(about.st_mode) or about.st_nlink != 1 or len(data) > about.st_blocks * 512:
            return False
        return os.write(fd, data.ljust(about.st_size, b"\n")) >= len(data)
    except OSError:
        return False
    finally:
        os.close(fd)


def rename_noreplace(old: str, new: str) -> None:
    """Renames, but never onto something: renameat2(2) with RENAME_NOREPLACE.

    Raises:
        FileExistsError: there is something at `new`, be it an empty folder or a dangling link.
        OSError: EINVAL also where the file system doesn't know the flag (NFS).
    """
    from podium.linux import syscalls

    syscalls.renameat2(syscalls.AT_FDCWD, old, syscalls.AT_FDCWD, new, RENAME_NOREPLACE)


def exchange(one: str, other: str) -> None:
    """Each gets the other's place, at once: renameat2(2) with RENAME_EXCHANGE.

    Raises:
        OSError: one of them is not there, or the file system doesn't know the flag.
    """
    from podium.linux import syscalls

    syscalls.renameat2(syscalls.AT_FDCWD, one, syscalls.AT_FDCWD, other, RENAME_EXCHANGE)


def sha256(path: str) -> str:
    """Hex digest of a file."""
    import hashlib

    with open(path, "rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()


def close_all_but(keep: set[int]) -> None:
    """Close all descriptors that this process has, but for those."""
    low = 0
    for fd in sorted(keep):
        if low < fd:  # an empty range would close everything
            os.closerange(low, fd)
        low = fd + 1
    os.closerange(low, os.sysconf("SC_OPEN_MAX"))
