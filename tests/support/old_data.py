"""Data directories of earlier formats, from the corpus."""

from __future__ import annotations

import os
import subprocess

from support import corpus


def unpack(format: int, folder: str) -> str:
    """Unpack the corpus' data directory of a format below `folder`, with owners and attributes; returns its path."""
    archive = os.path.join(corpus.FOLDER, f"format-{format}.tar.xz")
    argv = ["tar", "--extract", "--xz", "--numeric-owner", "--xattrs", "--preserve-permissions", "--file", archive]
    subprocess.run([*argv, "--directory", folder], check=True)
    return os.path.join(folder, "data")
