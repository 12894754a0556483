"""Overlay mounts of any number of lower folders, whatever their paths contain.

An overlay's options are one string in which `:`, `,` and `\\` mean something and which the kernel may cut at a page. A
path that is not plain, or is too long, is therefore given as the /proc/self/fd link of a descriptor, and lower folders
one by one where the kernel can take them so.
"""

from __future__ import annotations

import errno
import os

from podium.errors import HostLacks
from podium.linux import mount, syscalls
from podium.linux.syscalls import (
    FSCONFIG_CMD_CREATE,
    FSCONFIG_SET_FLAG,
    FSCONFIG_SET_STRING,
    FSMOUNT_CLOEXEC,
    FSOPEN_CLOEXEC,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

# fsconfig(2) takes strings up to 255 bytes; with many lower folders the page of mount(2) needs them shorter.
_MAX_STRING = 255
_SPECIAL = frozenset(":,\\\"' \t\n#")


class _Paths:
    """Gives each path a name that is safe in an option, and keeps open what such names need."""

    def __init__(self) -> None:
        self.fds: list[int] = []

    def by_link(self, path: str) -> str:
        self.fds.append(os.open(path, os.O_PATH | os.O_DIRECTORY))
        return mount.by_fd(self.fds[-1])

    def safe(self, path: str) -> str:
        """The path itself where it is plain, so that mountinfo tells people something."""
        if len(os.fsencode(path)) <= _MAX_STRING and path.startswith("/") and _SPECIAL.isdisjoint(path):
            return path
        return self.by_link(path)

    def close(self) -> None:
        for fd in self.fds:
            os.close(fd)


def mount_overlay(
    target: str | int,
    lowers: Sequence[str],
    upper: str | None,
    work: str | None,
    *,
    read_only: bool = False,
    volatile: bool = False,
) -> None:
    """Mounts an overlay: the first of `lowers` is the topmost; without `upper` and `work` at least two are needed.

    Device nodes in it can't be opened.

    Args:
        target: a path, or an O_PATH descriptor.
        read_only: only this mount is, not what is below.
        volatile: nothing is synced, at unmounting neither (which otherwise waits for the whole file system of `upper`);
            after a crash `upper` is not to be used again (Linux 5.10; older ones sync anyway).

    Raises:
        OSError: of open(2), fsconfig(2), with what the kernel says about it, move_mount(2) or mount(2); E2BIG for more
            lower folders than a kernel without `lowerdir+` takes.
    """
    paths = _Paths()
    try:
        if _can_append_lowers():
            fd = _configure(_options(paths.safe, lowers, upper, work), volatile, read_only)
            try:
                mount.attach(fd, target)
            finally:
                os.close(fd)
        else:
            _mount_at_once(paths, target, lowers, upper, work, read_only, volatile)
    finally:
        paths.close()


def _options(
    name: Callable[[str], str], lowers: Sequence[str], upper: str | None, work: str | None
) -> list[tuple[str, str]]:
    options = [("lowerdir+", name(lower)) for lower in lowers]
    if upper is not None and work is not None:
        options += [("upperdir", name(upper)), ("workdir", name(work))]
    return options


def _can_append_lowers() -> bool:
    """Whether the kernel takes `lowerdir+`; an older one takes any option here, so it is asked with a wrong value."""
    fs = syscalls.fsopen("overlay", FSOPEN_CLOEXEC)
    try:
        syscalls.fsconfig(fs, FSCONFIG_SET_STRING, "lowerdir+", "")
    except OSError as error:
        return _complaint(fs, "").find("nknown parameter") < 0 and error.errno == errno.EINVAL
    finally:
        os.close(fs)
    return False


def _configure(options: Sequence[tuple[str, str]], volatile: bool, read_only: bool = False) -> int:
    """A detached overlay mount."""
    fs = syscalls.fsopen("overlay", FSOPEN_CLOEXEC)
    try:
        try:
            syscalls.fsconfig(fs, FSCONFIG_SET_STRING, "source", "overlay")
            for key, value in options:
                syscalls.fsconfig(fs, FSCONFIG_SET_STRING, key, value)
            if volatile:
                syscalls.fsconfig(fs, FSCONFIG_SET_FLAG, "volatile")
            syscalls.fsconfig(fs, FSCONFIG_CMD_CREATE)
        except OSError as error:
            raise OSError(error.errno, _complaint(fs, str(error.strerror)), error.filename) from error
        attributes = mount.MOUNT_ATTR_NODEV | (mount.MOUNT_ATTR_RDONLY if read_only else 0)
        return syscalls.fsmount(fs, FSMOUNT_CLOEXEC, attributes)
    finally:
        os.close(fs)


def _complaint(fs: int, text: str) -> str:
    """`text`, and what the kernel has to say about why a configuration failed; each read is one message."""
    while True:
        try:
            message = os.read(fs, 4096)
        except OSError:
            return text
        text += ": " + os.fsdecode(message).strip()


def _mount_at_once(
    paths: _Paths,
    target: str | int,
    lowers: Sequence[str],
    upper: str | None,
    work: str | None,
    read_only: bool,
    volatile: bool,
) -> None:
    """The same with mount(2), all options in one string."""
    options = _options(paths.by_link, lowers, upper, work)
    data = "lowerdir=" + ":".join(value for key, value in options if key == "lowerdir+")
    for key, value in options:
        if key != "lowerdir+":
            data += f",{key}={value}"
    flags = mount.MS_NODEV | (mount.MS_RDONLY if read_only else 0)
    if volatile:
        try:
            mount.mount("overlay", target, "overlay", flags, data + ",volatile")
            return
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
    mount.mount("overlay", target, "overlay", flags, data)


def supports_overlay(folder: str) -> bool:
    """Whether the file system of `folder` can carry the upper layer of an overlay; tried for real, attached nowhere.

    Takes a millisecond or two; a folder is made in `folder` meanwhile.

    Raises:
        OSError: the folder can't be written to.
        HostLacks: podium lacks the privilege.
    """
    from podium.linux.tree import remove_tree

    name = f".overlay-probe-{os.getpid()}-{os.urandom(4).hex()}"
    base = os.path.join(folder, name)
    os.mkdir(base, 0o700)
    try:
        for part in ("lower", "upper", "work"):
            os.mkdir(os.path.join(base, part))
        os.mkdir(os.path.join(base, "lower", "renamed"))
        os.close(os.open(os.path.join(base, "lower", "removed"), os.O_CREAT | os.O_WRONLY))
        return _works(base)
    finally:
        remove_tree(folder, name)


def _works(base: str) -> bool:
    """Whether an overlay in `base` can be mounted, can remove a lower file, and make a folder opaque."""
    paths = _Paths()
    fd = -1
    try:
        layers = [(key, paths.by_link(os.path.join(base, key[:-3]))) for key in ("lowerdir", "upperdir", "workdir")]
        try:
            fd = _configure(layers, True)
        except OSError as error:
            if error.errno == errno.EPERM:  # of podium's, not of the file system's
                raise HostLacks("podium may mount nothing", hint="see 'podium stage1 check'") from None
            fd = _configure(layers, False)
        os.unlink("removed", dir_fd=fd)
        os.rmdir("renamed", dir_fd=fd)
        os.mkdir("renamed", dir_fd=fd)
        # Without these an overlay still mounts, but a folder made anew would show what the lower one holds.
        opaque = os.getxattr(os.path.join(base, "upper", "renamed"), "trusted.overlay.opaque")
        return opaque == b"y" and not os.path.exists(f"/proc/self/fd/{fd}/removed")
    except OSError:
        return False
    finally:
        if fd >= 0:
            os.close(fd)
        paths.close()
