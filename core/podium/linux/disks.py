"""Which disk a file is on: limits of input and output are those of whole disks."""

from __future__ import annotations

import os


def whole_disk(path: str) -> str | None:
    """`MAJOR:MINOR` of the disk whose file system `path` is on, of the whole one where that is a partition.

    Returns:
        None where there is no single disk below (tmpfs, NFS, btrfs, an overlay).
    """
    device = os.stat(path).st_dev
    folder = os.path.realpath(f"/sys/dev/block/{os.major(device)}:{os.minor(device)}")
    if not os.path.isdir(folder):
        return None
    if os.path.exists(f"{folder}/partition"):
        folder = os.path.dirname(folder)
    with open(f"{folder}/dev", encoding="ascii") as f:
        return f.read().strip()
