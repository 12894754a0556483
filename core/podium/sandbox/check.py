"""What every stage1 that uses the sandbox needs of a host, for `stage1 check`."""

from __future__ import annotations

import os

from podium.errors import HostLacks
from podium.linux import hierarchies, limits
from podium.linux.seccomp import build_filter
from podium.types import Finding


def common_findings() -> list[Finding]:
    """root, kernel, cgroups, block limits, overlay, libseccomp."""
    return [_root(), _kernel(), _cgroups(), _block_limits(), _overlay(), _seccomp()]


def _root() -> Finding:
    ok = os.geteuid() == 0
    return Finding(name="root", ok=ok, message="uid 0" if ok else f"uid {os.geteuid()}", hint="run podium as root")


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
