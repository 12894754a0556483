"""Data directories of earlier formats, from the corpus."""

from __future__ import annotations

import fcntl
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

from support import corpus
from support.distributions import REPOSITORY

# The commit at which each format was frozen in the corpus, which may also be tagged format-N: clones come without tags.
COMMITS = {1: "a84ac4f3dd8dfa15b006604c93d70b0b903cb35e", 2: "73bcf9db133c8666c6a82a2e240c1d800d420248"}


@contextmanager
def alone() -> Iterator[None]:
    """No other process tests with pods of the corpus: their uuids are the same, and each cleans up after itself."""
    with open(os.path.join(corpus.FOLDER, "DIGESTS"), "rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def unpack(name: str, folder: str) -> str:
    """Unpack a data directory of the corpus below `folder`, with owners and attributes; returns its path."""
    archive = os.path.join(corpus.FOLDER, f"{name}.tar.xz")
    argv = ["tar", "--extract", "--xz", "--numeric-owner", "--xattrs", "--preserve-permissions", "--file", archive]
    subprocess.run([*argv, "--directory", folder], check=True)
    return os.path.join(folder, "data")


def sources(format: int, folder: str, clone: str = REPOSITORY) -> str:
    """Unpack podium's sources as they were when a format was frozen, from a clone; returns `folder`.

    Raises:
        AssertionError: the clone does not reach back to that commit.
    """
    commit = COMMITS[format]
    argv = ["git", "-C", clone, "archive", "--format=tar", commit, "core", "plugins", "pyproject.toml"]
    archive = subprocess.run(argv, capture_output=True, check=False)
    assert archive.returncode == 0, (
        f"commit {commit} (format {format}) is not in this clone, so its podium can't be built: "
        f"'git fetch --unshallow' brings it. git says: {archive.stderr.decode()}"
    )
    os.makedirs(folder)
    subprocess.run(["tar", "--extract", "--directory", folder], input=archive.stdout, check=True)
    return folder
