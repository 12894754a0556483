"""What every stage1 that uses the sandbox needs of a host, for `stage1 check`."""

from __future__ import annotations

import os

from podium.errors import HostLacks
from podium.linux import caps, hierarchies, limits, mount, namespaces, syscalls
from podium.linux.seccomp import build_filter
from podium.types import Finding

# Without these nothing works: mounts and namespaces, chroot, owners of files, users of apps, ends of their processes.
_NEEDED = ("SYS_ADMIN", "SYS_CHROOT", "CHOWN", "DAC_OVERRIDE", "FOWNER", "SETUID", "SETGID", "SETPCAP", "KILL")
NO_CHROOT = "start podium from the root of its mount namespace, as in a container; the stage1 fly can do without"


def common_findings() -> list[Finding]:
    """root, kernel, mounts, cgroups, block limits, overlay, libseccomp."""
    return [_root(), _kernel(), _mounts(), _cgroups(), _block_limits(), _overlay(), _seccomp()]


def chroot_finding() -> Finding:
    """For a stage1 whose sandbox has a mount namespace with another root than podium's."""
    ok = not in_chroot()
    return Finding(
        name="chroot", ok=ok, message="podium is in none" if ok else "podium runs in a chroot", hint=NO_CHROOT
    )


def in_chroot() -> bool:
    """Whether podium's root folder is not its mount namespace's: setns(2) changes back to that."""
    pid = os.fork()
    if pid == 0:
        try:
            before = _place("/")
            namespaces.setns(os.open("/proc/self/ns/mnt", os.O_RDONLY), namespaces.CLONE_NEWNS)
            os._exit(_place("/") != before)
        finally:
            os._exit(0)
    return os.waitpid(pid, 0)[1] != 0


def _place(path: str) -> tuple[int, int]:
    return syscalls.mount_id(syscalls.AT_FDCWD, path, 0), os.stat(path).st_ino


def _root() -> Finding:
    uid = os.geteuid()
    lacking = [f"CAP_{name}" for name in _NEEDED if not caps.parse([name]) <= caps.current()["effective"]]
    message = f"uid {uid}" + (f", without {', '.join(lacking)}" if uid == 0 and lacking else "")
    hint = "run podium as root, and not in a container that takes root's privileges away"
    return Finding(name="root", ok=uid == 0 and not lacking, message=message, hint=hint)


def _mounts() -> Finding:
    ok = mount.is_mount_point("/")
    message = "the root folder is a mount point" if ok else "the root folder is no mount point, as in a chroot"
    return Finding(name="mounts", ok=ok, message=message, hint=mount.NO_ROOT_MOUNT)


def _kernel() -> Finding:
    release = os.uname().release
    numbers = [int("".join(c for c in part if c.isdigit()) or 0) for part in release.split(".")[:2]]
    ok = tuple(numbers) >= (5, 11)
    return Finding(
        name="kernel", ok=ok, message=release, hint="Linux 5.11 or newer is needed (openat2, pidfd, close_range)"
    )


def _cgroups() -> Finding:
    at = hierarchies.current()
    kinds = [*sorted(at.v1), *([f"v2 ({', '.join(sorted(at.v2_controllers)) or 'no controllers'})"] if at.v2 else [])]
    return Finding(
        name="cgroup",
        ok=bool(kinds),
        message=", ".join(kinds),
        hint="mount cgroup2 on /sys/fs/cgroup",
    )


def _block_limits() -> Finding:
    ok = not limits.missing(limits.Limits(io=(limits.IoLimit("8:0", read_bps=1),)))
    return Finding(
        name="block limits",
        ok=ok,
        required=False,
        message="the io controller throttles" if ok else "no controller io (v2) or blkio (v1) that throttles",
        hint="a kernel with CONFIG_BLK_DEV_THROTTLING and the controller enabled",
        capabilities=("isolator:block-bandwidth", "isolator:block-iops"),
    )


def _overlay() -> Finding:
    with open("/proc/filesystems", encoding="ascii") as f:
        ok = "\toverlay\n" in f.read()
    return Finding(
        name="overlay",
        ok=ok,
        required=False,
        message="known to the kernel" if ok else "not loaded; rootfs trees are copied",
        hint="modprobe overlay",
    )


def _seccomp() -> Finding:
    try:
        build_filter("remove", ("reboot",))
    except HostLacks as e:
        return Finding(
            name="libseccomp",
            ok=False,
            required=False,
            message=e.message,
            hint="apt-get install libseccomp2",
            capabilities=("isolator:seccomp",),
        )
    return Finding(name="libseccomp", ok=True, required=False, message="found")
