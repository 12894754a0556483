"""Files that are there whole or not at all, also after a power cut."""

from __future__ import annotations

import os
import stat

RENAME_NOREPLACE = 0x1


def fsync_dir(path: str) -> None:
    """Makes the entries of folder `path` outlive a crash: those made, renamed and removed (fsync(2))."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def write_atomic(path: str, data: bytes, mode: int = 0o644, durable: bool = True, *, sync_folder: bool = True) -> None:
    """Puts a file with exactly these bytes and this mode at `path`; a reader sees the old one or the new one.

    What was there is replaced, a symbolic link itself, not what it points to. Without `durable` nothing is fsynced: fit
    for what a reboot makes meaningless anyway. Without `sync_folder` it is the caller who syncs the folder, once for
    several files.

    Raises:
        OSError: of open, write, fsync or rename, with a path in it; nothing is left behind then.
    """
    folder = os.path.dirname(path) or "."
    temporary = os.path.join(folder, f".tmp-{os.getpid()}-{os.urandom(6).hex()}")
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    try:
        try:
            # A full disk or a quota ends a write early, without an error until the next one.
            left = memoryview(data)
            while left:
                left = left[os.write(fd, left) :]
            os.fchmod(fd, mode)
            if durable:
                os.fsync(fd)
        except OSError as error:
            raise OSError(error.errno, error.strerror, path) from error
        finally:
            os.close(fd)
        os.rename(temporary, path)
    except BaseException:
        try:
            os.unlink(temporary)
        except FileNotFoundError:
            pass
        raise
    if durable and sync_folder:
        fsync_dir(folder)


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
