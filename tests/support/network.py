"""Networks of a test session: a bridge, subnets and folders of its own, so that sessions side by side don't meet."""

from __future__ import annotations

import os
import subprocess
import zlib

NUMBER = zlib.crc32(str(os.getpid()).encode()) % 4096
BRIDGE = f"ptest{os.getpid() % 10**8}"
SUBNET = f"10.{224 + NUMBER // 256}.{NUMBER % 256}"  # of the first three bytes
SUBNET6 = f"fd5b:7465:{NUMBER:x}:"


def settings(folder: str) -> str:
    """The table [net] of the session's configuration; lists of CNI go to `folder`/net.d."""
    return (
        f'[net]\nbridge = "{BRIDGE}"\nsubnets = ["{SUBNET}.0/24", "{SUBNET6}:/64"]\n'
        f'ipam-dir = "{folder}/ipam"\nconfig-dir = "{folder}/net.d"\n'
    )


def has_bridge(name: str) -> bool:
    """Whether there is a link of that name."""
    return os.path.isdir(f"/sys/class/net/{name}")


def remove_bridge(name: str = BRIDGE) -> None:
    """The plugin keeps its bridge for the next pod; the session's goes with the session."""
    if has_bridge(name):
        subprocess.run(["ip", "link", "delete", name], check=True)
