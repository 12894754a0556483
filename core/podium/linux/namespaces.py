"""Namespaces: leave one's own, join others', and network namespaces that no process holds. See namespaces(7)."""

from __future__ import annotations

import os

from podium.contexts import contextmanager
from podium.linux import syscalls

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from podium.linux.procs import Process

CLONE_NEWTIME = 0x00000080
CLONE_NEWNS = 0x00020000
CLONE_NEWCGROUP = 0x02000000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000

# The names in /proc/PID/ns.
FLAGS = {
    "cgroup": CLONE_NEWCGROUP,
    "ipc": CLONE_NEWIPC,
    "mnt": CLONE_NEWNS,
    "net": CLONE_NEWNET,
    "pid": CLONE_NEWPID,
    "time": CLONE_NEWTIME,
    "user": CLONE_NEWUSER,
    "uts": CLONE_NEWUTS,
}

_MNT_DETACH = 2
_SIOCGIFFLAGS, _SIOCSIFFLAGS, _IFF_UP = 0x8913, 0x8914, 0x1


def unshare(flags: int) -> None:
    """Move the caller into new namespaces (unshare(2)); a new pid namespace is for its later children."""
    syscalls.unshare(flags)


def setns(fd: int, flags: int = 0) -> None:
    """Join the namespace that `fd` is; `flags` (CLONE_NEW…) asserts its kind, 0 allows any (setns(2))."""
    syscalls.setns(fd, flags)


@contextmanager
def inside(fds: Mapping[str, int]) -> Iterator[None]:
    """Be in other namespaces (kind → descriptor; neither user nor pid) for the block. For one thread only.

    With `mnt`, paths mean what they mean there, /proc/self nothing perhaps, and nothing is to be imported.
    """
    own, back = {}, []
    try:
        for kind in fds:
            own[kind] = os.open(f"/proc/self/ns/{kind}", os.O_RDONLY | os.O_CLOEXEC)
        if "mnt" in fds:  # whose joining changes both
            back = [os.open(path, os.O_PATH | os.O_CLOEXEC) for path in ("/", ".")]
        try:
            join(fds)
            yield
        finally:
            for kind, fd in own.items():
                syscalls.setns(fd, FLAGS[kind])
            if back:
                os.fchdir(back[0])
                os.chroot(".")
                os.fchdir(back[1])
    finally:
        for fd in (*own.values(), *back):
            os.close(fd)


def own_mounts() -> int:
    """A descriptor of the mount namespace that this process is in, before it leaves it; its number is 10 or more.

    What is started there later sees the host's files, and no mount of a pod's lives as long as it does.
    """
    import fcntl

    fd = os.open("/proc/self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
    try:
        return fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 10)
    finally:
        os.close(fd)


def open_namespaces(process: Process, kinds: Iterable[str]) -> dict[str, int]:
    """Descriptors of the namespaces of exactly this process; the caller closes them.

    Raises:
        ProcessLookupError: it is gone.
    """
    from podium.linux.procs import alive

    fds: dict[str, int] = {}
    try:
        for kind in kinds:
            fds[kind] = os.open(f"/proc/{process.pid}/ns/{kind}", os.O_RDONLY | os.O_CLOEXEC)
        if alive(process):  # so the pid was its own while we opened
            return fds
    except FileNotFoundError:
        pass
    except BaseException:
        close_all(fds)
        raise
    close_all(fds)
    raise ProcessLookupError(f"process {process.pid} is gone")


def close_all(fds: Mapping[str, int]) -> None:
    """Close descriptors that `open_namespaces` gave."""
    for fd in fds.values():
        os.close(fd)


def join(fds: Mapping[str, int]) -> None:
    """Join these namespaces (kind → descriptor), in an order that keeps the right to join the rest.

    As root the user namespace comes last: some of the others may belong to the host's (a network namespace that core
    made). Anybody else gets the right to join the others by joining it first. The mount namespace, which changes what
    paths mean, comes after all but that. Ids are to be set by the caller afterwards; a pid namespace is for later
    children.
    """
    order = ["cgroup", "ipc", "uts", "net", "time", "pid", "mnt"]
    order.insert(len(order) if os.geteuid() == 0 else 0, "user")
    for kind in order:
        if kind in fds and not _is_own(kind, fds[kind]):
            syscalls.setns(fds[kind], FLAGS[kind])


def _is_own(kind: str, fd: int) -> bool:
    """Joining the user namespace that one is in already is an error (EINVAL), the others are spared."""
    if kind == "pid":  # /proc/self/ns/pid is not where children go
        return False
    ours, theirs = os.stat(f"/proc/self/ns/{kind}"), os.fstat(fd)
    return (ours.st_dev, ours.st_ino) == (theirs.st_dev, theirs.st_ino)


def loopback_up() -> None:
    """Bring up `lo` of the caller's network namespace (netdevice(7)); the kernel gives it its addresses."""
    import fcntl
    import socket
    from struct import pack, unpack_from

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
        answer = fcntl.ioctl(sock, _SIOCGIFFLAGS, pack("16sh22x", b"lo", 0))
        (flags,) = unpack_from("h", answer, 16)
        fcntl.ioctl(sock, _SIOCSIFFLAGS, pack("16sh22x", b"lo", flags | _IFF_UP))


def pin_netns(path: str) -> int:
    """Make a network namespace, loopback up, and keep it by a bind mount on the new file `path`.

    The caller stays in its own. The mount is made in the caller's mount namespace.

    Args:
        path: must not exist; its folder must.

    Returns:
        The namespace's inode number, by which `unpin_netns` knows it again.

    Raises:
        OSError: a call failed; nothing is left of it.
    """
    os.close(os.open(path, os.O_RDONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o444))
    pid = os.fork()
    if pid == 0:
        code = 255
        try:
            syscalls.unshare(CLONE_NEWNET)
            loopback_up()
            syscalls.mount("/proc/self/ns/net", path, None, 0x1000, None)  # MS_BIND
            code = 0
        except OSError as e:
            code = e.errno or 255
        finally:
            os._exit(code)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if code != 0:
        unpin_netns(path)
        raise OSError(code, f"{os.strerror(code)} (making a network namespace)" if code > 0 else "was killed", path)
    return os.stat(path).st_ino


def unpin_netns(path: str, inode: int | None = None) -> None:
    """Let go of what `pin_netns` made. It may be gone already, in part (after a reboot the file is empty) or whole.

    Args:
        path: of the file.
        inode: the number that `pin_netns` gave; None: whatever network namespace is there.

    Raises:
        InUse: what is there is not that namespace, and not the empty file that is left of it.
    """
    from podium.errors import InUse

    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return
    while found.st_dev == os.stat("/proc/self/ns/net").st_dev:
        if inode not in (None, found.st_ino):
            raise InUse(
                f"{path} is pinned to namespace {found.st_ino}, not to {inode}", hint="it was left alone", subject=path
            )
        syscalls.umount2(path, _MNT_DETACH)
        found = os.lstat(path)
    if found.st_size or found.st_mode & 0o170000 != 0o100000:
        raise InUse(f"{path} is no namespace and no empty file", hint="it was left alone", subject=path)
    os.unlink(path)
