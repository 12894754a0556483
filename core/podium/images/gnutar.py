"""Packing folders with GNU tar: faster than Python by far, and the same folder gives the same bytes."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import IO

from podium.errors import Failed

_ARGV = (
    "tar", "--create", "--format=posix", "--sort=name", "--numeric-owner", "--one-file-system",
    "--sparse", "--sparse-version=0.0",  # later versions put tar's process id into the archive
    "--pax-option=exthdr.name=%d/PaxHeaders/%f,delete=atime,delete=ctime",
    "--xattrs", "--xattrs-include=*",
)  # fmt: skip


@contextmanager
def packed(*members: tuple[str, Sequence[str]]) -> Iterator[IO[bytes]]:
    """A tar archive of files and folders, to be read to its end.

    Args:
        members: folders, each with the names in it that are packed under these names; `.` is all of it.

    Raises:
        Failed: tar could not read something; raised at the end.
    """
    argv = [*_ARGV]
    for folder, names in members:
        argv += ["--directory", os.path.abspath(folder), *names]
    environment = {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C"}
    with (
        tempfile.TemporaryFile() as complaints,
        subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=complaints, env=environment
        ) as child,
    ):
        assert child.stdout is not None
        try:
            yield child.stdout
        except BaseException:
            child.kill()
            raise
        child.wait()
        complaints.seek(0)
        complaint = complaints.read().decode(errors="replace").strip()
    if child.returncode != 0:
        where = ", ".join(folder for folder, _ in members)
        raise Failed(f"tar could not read {where}: {complaint[-300:]}", subject=where)
