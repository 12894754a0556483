"""What this host has and lacks for virtual machines, for `stage1 check`."""

from __future__ import annotations

import shutil

from podium.errors import HostLacks
from podium.sandbox import kernels
from podium.types import Finding
from podium_kvm import accelerator, sharing
from podium_kvm.machine import QEMU

_PROGRAMS = (
    (QEMU, "qemu-system-x86"),
    ("busybox", "busybox-static"),
    ("mkfs.erofs", "erofs-utils"),
    ("mke2fs", "e2fsprogs"),
)


def findings() -> list[Finding]:
    """Programs, a kernel for the guests, and whether the processor can help."""
    found = [
        Finding(name=name, ok=path is not None, message=path or "not found", hint=f"apt-get install {package}")
        for name, package in _PROGRAMS
        for path in (shutil.which(name),)
    ]
    try:
        kernel = Finding(name="guest kernel", ok=True, message=kernels.newest())
    except HostLacks as e:
        kernel = Finding(name="guest kernel", ok=False, message=e.message, hint=e.hint)
    ok, message = accelerator.ask() or (False, "it did not answer")
    kvm = Finding(name="kvm", ok=ok, required=False, message=message, hint="guests run slowly, under TCG, without it")
    virtiofsd = sharing.program()
    volumes = Finding(
        name="virtiofsd",
        ok=virtiofsd is not None,
        required=False,
        message=virtiofsd or "not found",
        hint=sharing.INSTALL,
        capabilities=("volume:host", "volume:empty", "volume:tmpfs"),
    )
    return [*found, volumes, kernel, kvm]
