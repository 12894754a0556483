"""A faithful copy of a file tree, for where an overlay is impossible; data is shared (reflinked) where it can be."""

from __future__ import annotations

import errno
import fcntl
import os
import stat

from podium.linux.trail import Trail, open_folder

# linux/fs.h
_FICLONE = 0x40049409

# What no file may lose; of others (security.selinux, file systems' own) a target is allowed to know nothing.
_KEPT_XATTRS = ("user.", "trusted.", "security.capability", "system.posix_acl_")
_CHUNK = 1 << 20
_CANNOT_SHARE = (errno.EOPNOTSUPP, errno.ENOTTY, errno.EXDEV, errno.EINVAL, errno.ENOSYS)


def copy_tree(source: str, target: str) -> None:
    """Copies the folder `source` to `target`, which must not exist yet.

    Owners, modes, times, hard links, extended attributes and ACLs, holes, devices, FIFOs and sockets come out as they
    are. Links are copied, not followed. After an error the half copy stays, for `remove_tree`.

    Raises:
        OSError: of the call that failed, with a path in it: FileExistsError when there is something at `target`,
            EXDEV when something is mounted in `source`.
        HostLacks: the kernel is older than 5.6.
    """
    source_fd = os.open(source, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.mkdir(target, 0o700)
        target_fd = os.open(target, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        try:
            _Copy(source_fd, target_fd).run(source)
        finally:
            os.close(target_fd)
    finally:
        os.close(source_fd)


class _Copy:
    """One copy: a walk through both trees side by side."""

    def __init__(self, source_fd: int, target_fd: int) -> None:
        self.top = target_fd
        self.source = Trail()
        self.target = Trail()
        self.source.down(".", os.dup(source_fd))
        self.target.down(".", os.dup(target_fd))
        self.folders: list[list[str]] = []
        # Where the first name of a file with several is in the copy.
        self.linked: dict[tuple[int, int], str] = {}
        self.can_clone = True
        self.can_copy_range = True

    def run(self, source: str) -> None:
        try:
            self.fill()
            while self.folders:
                if self.folders[-1]:
                    self.enter(self.folders[-1].pop())
                else:
                    self.leave()
        except OSError as error:
            if error.filename is None or isinstance(error.filename, int):
                path = os.path.join(source, self.source.path)
                raise OSError(error.errno, f"{error.strerror} (copy)", path) from error
            raise
        finally:
            self.source.close()
            self.target.close()

    def enter(self, name: str) -> None:
        fd = open_folder(self.source.fd, name)
        os.mkdir(name, 0o700, dir_fd=self.target.fd)
        target_fd = open_folder(self.target.fd, name)
        self.source.down(name, fd)
        self.target.down(name, target_fd)
        self.fill()

    def fill(self) -> None:
        """Copies all that is no folder of the present one, and notes its folders."""
        folders: list[str] = []
        with os.scandir(self.source.fd) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    folders.append(entry.name)
                else:
                    self.copy(entry.name, entry.stat(follow_symlinks=False))
        self.folders.append(folders)

    def leave(self) -> None:
        # Last, since filling a folder changes its times, and may need a mode that it is not to keep.
        _copy_attributes(os.fstat(self.source.fd), self.source.fd, self.target.fd)
        self.folders.pop()
        if len(self.source) > 1:
            self.source.up()
            self.target.up()

    def copy(self, name: str, status: os.stat_result) -> None:
        identity = (status.st_dev, status.st_ino)
        if status.st_nlink > 1:
            if identity in self.linked:
                os.link(
                    self.linked[identity],
                    name,
                    src_dir_fd=self.top,
                    dst_dir_fd=self.target.fd,
                    follow_symlinks=False,
                )
                return
            self.linked[identity] = f"{self.target.path}/{name}"
        if stat.S_ISREG(status.st_mode):
            self.copy_file(name)
            return
        if stat.S_ISLNK(status.st_mode):
            os.symlink(os.readlink(name, dir_fd=self.source.fd), name, dir_fd=self.target.fd)
        else:
            os.mknod(name, status.st_mode, status.st_rdev, dir_fd=self.target.fd)
        os.chown(name, status.st_uid, status.st_gid, dir_fd=self.target.fd, follow_symlinks=False)
        _copy_xattrs(f"/proc/self/fd/{self.source.fd}/{name}", f"/proc/self/fd/{self.target.fd}/{name}")
        if not stat.S_ISLNK(status.st_mode):
            os.chmod(name, stat.S_IMODE(status.st_mode), dir_fd=self.target.fd)
        times = (status.st_atime_ns, status.st_mtime_ns)
        os.utime(name, ns=times, dir_fd=self.target.fd, follow_symlinks=False)

    def copy_file(self, name: str) -> None:
        # Not blocking: it could be a FIFO by now.
        source = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=self.source.fd)
        try:
            status = os.fstat(source)
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
            target = os.open(name, flags, 0o600, dir_fd=self.target.fd)
            try:
                if status.st_size and not self.clone(source, target):
                    self.copy_data(source, target, status.st_size)
                _copy_attributes(status, source, target)
            finally:
                os.close(target)
        finally:
            os.close(source)

    def clone(self, source: int, target: int) -> bool:
        """Shares the data (ioctl_ficlone(2)); False where the file systems can't."""
        if self.can_clone:
            try:
                fcntl.ioctl(target, _FICLONE, source)
            except OSError as error:
                if error.errno not in _CANNOT_SHARE:
                    raise
                self.can_clone = False
        return self.can_clone

    def copy_data(self, source: int, target: int, size: int) -> None:
        """Copies data but not holes (lseek(2))."""
        end = 0
        while end < size:
            try:
                start = os.lseek(source, end, os.SEEK_DATA)
            except OSError as error:
                if error.errno != errno.ENXIO:
                    raise
                break
            end = os.lseek(source, start, os.SEEK_HOLE)
            self.copy_range(source, target, start, end)
        os.ftruncate(target, size)

    def copy_range(self, source: int, target: int, start: int, end: int) -> None:
        while start < end and self.can_copy_range:
            try:
                done = os.copy_file_range(source, target, end - start, start, start)
            except OSError as error:
                if error.errno not in _CANNOT_SHARE:
                    raise
                self.can_copy_range = False
                break
            if not done:
                return
            start += done
        while start < end:
            data = os.pread(source, min(_CHUNK, end - start), start)
            if not data:
                return
            start += os.pwrite(target, data, start)


def _copy_attributes(status: os.stat_result, source: int, target: int) -> None:
    """Owner, extended attributes, mode and times, in the order in which none undoes another."""
    os.fchown(target, status.st_uid, status.st_gid)
    _copy_xattrs(source, target)
    os.fchmod(target, stat.S_IMODE(status.st_mode))
    os.utime(target, ns=(status.st_atime_ns, status.st_mtime_ns))


def _copy_xattrs(source: int | str, target: int | str) -> None:
    """Extended attributes of open files, or of paths whose last component is not followed."""
    follow = isinstance(source, int)
    try:
        names = os.listxattr(source, follow_symlinks=follow)
    except OSError as error:
        if error.errno != errno.EOPNOTSUPP:
            raise
        return
    for name in names:
        try:
            os.setxattr(target, name, os.getxattr(source, name, follow_symlinks=follow), follow_symlinks=follow)
        except OSError as error:
            if name.startswith(_KEPT_XATTRS) or error.errno not in (errno.EOPNOTSUPP, errno.EPERM, errno.EINVAL):
                raise
