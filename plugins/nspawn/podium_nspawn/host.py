"""What a pod needs of the host, and what of it no pod can have."""

from __future__ import annotations

from podium.errors import BadInput
from podium.linux.programs import needed
from podium.types import App

OWN_FOLDERS = ("/proc", "/sys", "/dev")  # nspawn makes them


def check(apps: tuple[App, ...]) -> None:
    """Refuse at prepare what a run would refuse.

    Raises:
        HostLacks: a program is not installed.
        BadInput: a volume is to be where the app could not see it.
    """
    needed("systemd-nspawn", "systemd-container")
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
    return needed("busybox", "busybox-static")
