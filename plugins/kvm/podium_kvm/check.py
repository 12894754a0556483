"""What this host has and lacks for virtual machines, for `stage1 check`."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from typing import Any

from podium.errors import BadInput, HostLacks
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


def findings(settings: Mapping[str, Any]) -> list[Finding]:
    """Programs, a kernel for the guests, and whether the processor can help; with what the configuration asks for."""
    found = [
        Finding(name=name, ok=path is not None, message=path or "not found", hint=f"apt-get install {package}")
        for name, package in _PROGRAMS
        for path in (shutil.which(name),)
    ]
    virtiofsd = sharing.program()
    volumes = Finding(
        name="virtiofsd",
        ok=virtiofsd is not None,
        required=False,
        message=virtiofsd or "not found",
        hint=sharing.INSTALL,
        capabilities=("volume:host", "volume:empty", "volume:tmpfs"),
    )
    return [*found, volumes, _kernel(settings.get("kernel") or None), _accelerator(settings.get("accel"))]


def _kernel(source: str | None) -> Finding:
    try:
        return Finding(name="guest kernel", ok=True, message=kernels.choose(source))
    except (HostLacks, BadInput) as e:
        return Finding(name="guest kernel", ok=False, message=e.message, hint=e.hint)


def _accelerator(asked: str | None) -> Finding:
    try:
        accelerator.check_word(asked or accelerator.AUTO)
    except BadInput as e:
        return Finding(name="kvm", ok=False, message=e.message, hint=e.hint)
    if asked == accelerator.TCG:
        return Finding(name="kvm", ok=True, message='not used: the configuration has accel = "tcg"')
    ok, message = accelerator.ask() or (False, "it did not answer")
    alone = asked == accelerator.KVM
    hint = accelerator.OTHERWISE if alone else "guests run slowly, under TCG, without it"
    return Finding(name="kvm", ok=ok, required=alone, message=message, hint=hint)
