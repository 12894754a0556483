"""A data directory on a file system of its own, whose power can be cut at any moment.

The disk is a file behind a loop device. What it holds while nothing is being written to it is what a disk would hold
if the power went at that moment: what the kernel had not written yet is lost.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager

from podium.linux.loop import attached
from support.injections import working
from support.volatile import VolatileFile

SIZE = 256 << 20
TRIES = 200


class Disk:
    """An ext4 on a loop device.

    Attributes:
        folder: where it is mounted.
        image: the file that is the disk.
    """

    def __init__(self, work: str) -> None:
        self.work = work
        self.folder = os.path.join(work, "disk")
        self.image = os.path.join(work, "disk.img")
        os.makedirs(self.folder)
        with open(self.image, "wb") as f:
            f.truncate(SIZE)
        subprocess.run(["mkfs.ext4", "-q", self.image], check=True)

    def mount(self) -> None:
        _mount(self.image, self.folder)

    def unmount(self) -> None:
        """Unmount it, and wait for whoever has copied our mounts into a namespace of his own meanwhile."""
        subprocess.run(["umount", self.folder], check=True)
        deadline = time.monotonic() + 60
        while attached(self.work + "/"):
            assert time.monotonic() < deadline, "the loop device stays"
            time.sleep(0.05)

    def lose_power(self) -> None:
        """Keep what the disk holds now; whoever works on it is killed."""
        working = _stop(self.folder)
        # A file of its own each time: mount takes a loop device that still has the old one, with what it has cached.
        if os.path.exists(self.image + ".lost"):
            os.unlink(self.image + ".lost")
        try:
            for _ in range(TRIES):  # again if the kernel wrote meanwhile
                before = self._written()
                subprocess.run(["cp", "--sparse=always", self.image, self.image + ".lost"], check=True)
                if self._written() == before:
                    return
        finally:
            for pid in working:
                _signal(pid, signal.SIGKILL)
        raise AssertionError("the disk is never quiet")

    @contextmanager
    def afterwards(self) -> Iterator[str]:
        """The disk as it was when the power went, mounted, its journal replayed; yields the folder."""
        folder = os.path.join(self.work, "after")
        os.makedirs(folder, exist_ok=True)
        _mount(self.image + ".lost", folder)
        try:
            yield folder
        finally:
            subprocess.run(["umount", folder], check=True)

    def _written(self) -> str:
        """The counters of its block device (Documentation/block/stat.rst): writes and those under way."""
        with open("/proc/self/mountinfo", encoding="utf-8") as f:
            number = next(line.split()[2] for line in f if line.split()[4] == self.folder)
        with open(f"/sys/dev/block/{number}/stat", encoding="ascii") as f:
            fields = f.read().split()
        return " ".join((*fields[4:7], fields[8])) if fields[8] == "0" else os.urandom(8).hex()


class VolatileDisk(Disk):
    """An ext4 on a disk with a cache that loses and reorders what was not flushed."""

    def __init__(self, work: str, chance: random.Random) -> None:
        self.work = work
        self.folder = os.path.join(work, "disk")
        self.image = os.path.join(work, "disk.img")
        self.unflushed = 0  # writes that were at stake
        self._chance = chance
        os.makedirs(self.folder)
        self._file = VolatileFile(self.image, SIZE)
        subprocess.run(["mkfs.ext4", "-q", self.image], check=True)

    def unmount(self) -> None:
        super().unmount()
        self._file.close()

    def lose_power(self) -> None:
        """Keep what the disk would have; whoever works on it is killed."""
        working = _stop(self.folder)
        try:
            if os.path.exists(self.image + ".lost"):
                os.unlink(self.image + ".lost")
            self.unflushed += self._file.lose_power(self.image + ".lost", self._chance)
        finally:
            for pid in working:
                _signal(pid, signal.SIGKILL)

    @property
    def flushes(self) -> int:
        """How often the file system has had the cache written."""
        return self._file.flushes


def _mount(image: str, folder: str) -> None:
    subprocess.run(["mount", "-o", "loop", image, folder], check=True)


def _stop(folder: str) -> list[int]:
    """Stop the processes whose command line names the folder, and tell which."""
    pids = working(folder + "/")
    for pid in pids:
        _signal(pid, signal.SIGSTOP)
    return pids


def _signal(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        pass  # it has ended meanwhile
