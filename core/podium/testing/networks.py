"""The network `default` of a suite's pods: a bridge and subnets of its own, so that suites side by side don't meet."""

from __future__ import annotations

import os
import subprocess
import zlib


def _number(workspace: str) -> int:
    return zlib.crc32(os.path.basename(workspace).encode()) % 7680


def bridge(workspace: str) -> str:
    """Name of the bridge of the suite that works in this folder."""
    return f"psuite{_number(workspace)}"


def settings(workspace: str) -> str:
    """The table [net] of the suite's configuration."""
    high, low = divmod(_number(workspace), 256)
    return (
        f'[net]\nbridge = "{bridge(workspace)}"\n'
        f'subnets = ["10.{192 + high}.{low}.0/24", "fd5b:7375:{high:x}:{low:x}::/64"]\n'
        f'ipam-dir = "{workspace}/ipam"\nconfig-dir = "{workspace}/net.d"\n'
    )


def remove_bridge(workspace: str) -> None:
    """Take the bridge away, which is kept for a next pod."""
    if os.path.isdir(f"/sys/class/net/{bridge(workspace)}"):
        subprocess.run(["ip", "link", "delete", bridge(workspace)], check=True)
