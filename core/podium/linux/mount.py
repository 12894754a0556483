"""Mounts: making, attaching, reading them.

A target may be a path or an O_PATH descriptor. Inside a root file system that an image brought it has to be a
descriptor (`podium.linux.resolve`): a path could be swapped for a link to the host between the look and the mount
(CVE-2021-30465).
"""

from __future__ import annotations

import errno
import os

from podium.linux import syscalls
from podium.linux.syscalls import AT_EMPTY_PATH, AT_FDCWD, AT_RECURSIVE
from podium.named import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

MS_RDONLY = 0x1
MS_NOSUID = 0x2
MS_NODEV = 0x4
MS_NOEXEC = 0x8
MS_REMOUNT = 0x20
MS_NOATIME = 0x400
MS_NODIRATIME = 0x800
MS_BIND = 0x1000
MS_MOVE = 0x2000
MS_REC = 0x4000
MS_UNBINDABLE = 0x20000
MS_PRIVATE = 0x40000
MS_SLAVE = 0x80000
MS_SHARED = 0x100000
MS_RELATIME = 0x200000
MS_STRICTATIME = 0x1000000

MNT_FORCE = 0x1
MNT_DETACH = 0x2
UMOUNT_NOFOLLOW = 0x8

MOUNT_ATTR_RDONLY = 0x1
MOUNT_ATTR_NOSUID = 0x2
MOUNT_ATTR_NODEV = 0x4
MOUNT_ATTR_NOEXEC = 0x8

OPEN_TREE_CLONE = 0x1
OPEN_TREE_CLOEXEC = os.O_CLOEXEC

MOVE_MOUNT_F_EMPTY_PATH = 0x4
MOVE_MOUNT_T_SYMLINKS = 0x10
MOVE_MOUNT_T_EMPTY_PATH = 0x40

CLONE_NEWNS = 0x20000

NO_ROOT_MOUNT = "'mount --bind DIR DIR' before 'chroot DIR'"

# mount(2) copies one page of options, and ends what is longer there without a word.
MAX_OPTIONS = 4095

_REMOUNT_FLAGS = {
    "ro": MS_RDONLY,
    "nosuid": MS_NOSUID,
    "nodev": MS_NODEV,
    "noexec": MS_NOEXEC,
    "noatime": MS_NOATIME,
    "nodiratime": MS_NODIRATIME,
    "relatime": MS_RELATIME,
}


def by_fd(fd: int) -> str:
    """A path that leads to exactly what `fd` is open on, for calls that take paths alone; needs /proc."""
    return f"/proc/self/fd/{fd}"


def mount(source: str, target: str | int, fstype: str | None, flags: int = 0, data: str | None = None) -> None:
    """mount(2), on a path or on the place that an O_PATH descriptor is open on.

    Raises:
        OSError: of the call; E2BIG where the kernel would cut the options off silently.
    """
    path = by_fd(target) if isinstance(target, int) else target
    if data is not None and len(os.fsencode(data)) > MAX_OPTIONS:
        raise OSError(errno.E2BIG, f"Mount options longer than {MAX_OPTIONS} bytes (mount)", path)
    syscalls.mount(source, path, fstype, flags, data)


def umount(target: str, flags: int = 0) -> None:
    """umount2(2)."""
    syscalls.umount2(target, flags)


def attach(mount_fd: int, target: str | int) -> None:
    """Attaches a detached mount (from fsmount or open_tree) to a path, or to what a descriptor is open on.

    Raises:
        OSError: of move_mount(2).
    """
    if isinstance(target, int):
        syscalls.move_mount(mount_fd, "", target, "", MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH)
    else:
        syscalls.move_mount(mount_fd, "", AT_FDCWD, target, MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_SYMLINKS)


def attach_new(fstype: str, target: int, attributes: int = 0) -> None:
    """Mounts a new file system without options, on the place that `target` is open on; needs no /proc.

    Args:
        attributes: MOUNT_ATTR_… of this mount.

    Raises:
        OSError: of fsopen(2), fsconfig(2), fsmount(2) or move_mount(2).
    """
    fs = syscalls.fsopen(fstype, syscalls.FSOPEN_CLOEXEC)
    try:
        syscalls.fsconfig(fs, syscalls.FSCONFIG_CMD_CREATE)
        made = syscalls.fsmount(fs, syscalls.FSMOUNT_CLOEXEC, attributes)
    finally:
        os.close(fs)
    try:
        attach(made, target)
    finally:
        os.close(made)


def bind(source: str | int, target: str | int, *, recursive: bool = False, read_only: bool = False) -> None:
    """Bind-mounts `source` on `target`; with `recursive` with all that is mounted below, which `read_only` covers too.

    From Linux 5.12 a read-only bind is never there writable, not for a moment.

    Raises:
        OSError: of open_tree(2), move_mount(2), mount_setattr(2) or mount(2).
    """
    tree = clone(source, recursive=recursive)
    try:
        done = not read_only or _set_read_only(tree, recursive)
        attach(tree, target)
        if not done:
            _remount_read_only(tree, recursive)
    finally:
        os.close(tree)


def clone(source: str | int, *, recursive: bool = False) -> int:
    """A detached copy of the mount at `source`, with its flags, for `attach`; the caller closes it.

    Raises:
        OSError: of open_tree(2).
    """
    flags = OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | (AT_RECURSIVE if recursive else 0)
    if isinstance(source, int):
        return syscalls.open_tree(source, "", flags | AT_EMPTY_PATH)
    return syscalls.open_tree(AT_FDCWD, source, flags)


def _set_read_only(tree: int, recursive: bool) -> bool:
    """Makes a mount read-only; False before Linux 5.12."""
    try:
        flags = AT_EMPTY_PATH | (AT_RECURSIVE if recursive else 0)
        syscalls.mount_setattr(tree, "", flags, attr_set=MOUNT_ATTR_RDONLY)
    except OSError as error:
        if error.errno != errno.ENOSYS:
            raise
        return False
    return True


def _remount_read_only(tree: int, recursive: bool) -> None:
    """The same for an attached mount by mount(2), one mount after the other, keeping each one's other flags."""
    top = os.readlink(by_fd(tree))
    number = syscalls.statx(tree, "", AT_EMPTY_PATH, syscalls.STATX_MNT_ID).mount_id
    for entry in mounts_below(top, read_mountinfo()):
        if entry.id != number and not (recursive and entry.target != top):
            continue
        flags = MS_REMOUNT | MS_BIND | MS_RDONLY
        for option in entry.options.split(","):
            flags |= _REMOUNT_FLAGS.get(option, 0)
        mount("none", tree if entry.id == number else entry.target, None, flags)


def set_propagation(target: str, flags: int) -> None:
    """Sets how mounts propagate: MS_PRIVATE, MS_SLAVE, MS_SHARED or MS_UNBINDABLE, with MS_REC for all below too."""
    mount("none", target, None, flags)


def unshare_mounts() -> None:
    """Gives this process its own mounts: the host's later ones still arrive, none of its own reach the host.

    Raises:
        HostLacks: the privilege, or a root folder that is a mount point, whose mount can be kept from telling the host.
    """
    try:
        syscalls.unshare(CLONE_NEWNS)
        set_propagation("/", MS_SLAVE | MS_REC)
    except OSError as error:
        from podium.errors import HostLacks

        if error.errno == errno.EPERM:
            raise HostLacks("podium may make no mount namespace", hint="see 'podium stage1 check'") from None
        if error.errno == errno.EINVAL:
            raise HostLacks("the root folder is no mount point, as in a chroot", hint=NO_ROOT_MOUNT) from None
        raise


def is_mount_point(path: str) -> bool:
    """Whether something is mounted exactly there (statx(2), Linux 5.8)."""
    fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        return bool(syscalls.statx(fd, "", AT_EMPTY_PATH, 0).attributes & syscalls.STATX_ATTR_MOUNT_ROOT)
    finally:
        os.close(fd)


class MountEntry(NamedTuple):
    """A line of /proc/<pid>/mountinfo (proc_pid_mountinfo(5)), its octal escapes decoded."""

    id: int
    parent: int
    device: str
    root: str
    target: str
    options: str
    propagation: str
    fstype: str
    source: str
    super_options: str


def read_mountinfo(pid: int | str = "self") -> list[MountEntry]:
    """All mounts that process `pid` sees, in the kernel's order: what covers a mount comes after it.

    Raises:
        OSError: there is no such process, or it may not be looked at.
    """
    with open(f"/proc/{pid}/mountinfo", "rb", buffering=0) as file:
        text = os.fsdecode(file.readall())
    return [_entry(line) for line in text.split("\n") if line]


def _entry(line: str) -> MountEntry:
    fields = line.split(" ")
    # Any number of propagation fields, then a lone dash, then three fields of which the last may hold anything.
    dash = fields.index("-", 6)
    root, target, source, super_options = fields[3], fields[4], fields[dash + 2], " ".join(fields[dash + 3 :])
    if "\\" in line:
        root, target, source, super_options = map(_unescape, (root, target, source, super_options))
    return MountEntry(
        int(fields[0]),
        int(fields[1]),
        fields[2],
        root,
        target,
        fields[5],
        " ".join(fields[6:dash]),
        fields[dash + 1],
        source,
        super_options,
    )


def _unescape(text: str) -> str:
    r"""`text` with each \ooo made the character again that the kernel wrote so: a space, tab, newline, # or \."""
    first, *rest = text.split("\\")
    return first + "".join(
        chr(int(part[:3], 8)) + part[3:] if len(part) >= 3 and part[:3].isdigit() else "\\" + part for part in rest
    )


def mounts_below(path: str, entries: Iterable[MountEntry]) -> list[MountEntry]:
    """Those of `entries` mounted on `path` itself or anywhere below; unmount them in reverse order."""
    path = path.rstrip("/")
    below = path + "/"
    return [entry for entry in entries if entry.target == path or entry.target.startswith(below)]
