"""What a pod needs of the host, and what of it no pod can have."""

from __future__ import annotations

import os

from podium.errors import BadInput, HostLacks
from podium.types import App

OWN_FOLDERS = ("/proc", "/sys", "/dev")  # nspawn makes them


def check(apps: tuple[App, ...]) -> None:
    """Refuse at prepare what a run would refuse.

    Raises:
        HostLacks: a program is not installed.
        BadInput: a volume is to be where the app could not see it.
    """
    _program("systemd-nspawn", "systemd-container")
    busybox()
    for app in apps:
        for m in app.mounts:
            if m.target in OWN_FOLDERS or m.target.startswith(("/proc/", "/sys/")):
                raise BadInput(
                    f"nspawn makes {m.target} itself, no volume can be mounted there",
                    hint="a volume may be in /dev, as a device; see docs/nspawn.md",
                    subject=app.name,
                )


def busybox() -> str:
    """Path of a static busybox, the placeholder's program. Raises HostLacks."""
    return _program("busybox", "busybox-static")


def _program(name: str, package: str) -> str:
    for folder in os.get_exec_path():  # as shutil.which, whose import takes 3 ms
        path = os.path.join(folder, name)
        if os.access(path, os.X_OK):
            return path
    raise HostLacks(f"{name} is not installed", hint=f"apt-get install {package}", subject=name)
