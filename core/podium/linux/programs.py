"""Programs of the host, by name."""

from __future__ import annotations

import os

from podium.errors import HostLacks


def find(name: str) -> str | None:
    """The path of a program in PATH; as shutil.which, whose import takes 3 ms."""
    for folder in os.get_exec_path():
        path = os.path.join(folder, name)
        if os.access(path, os.X_OK) and not os.path.isdir(path):
            return path
    return None


def needed(name: str, package: str) -> str:
    """The path of a program in PATH.

    Raises:
        HostLacks: it is not there; says that this Debian package has it.
    """
    path = find(name)
    if path is None:
        raise HostLacks(f"{name} is not installed", hint=f"apt-get install {package}", subject=name)
    return path
