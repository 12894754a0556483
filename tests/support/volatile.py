"""A disk whose cache loses what was not flushed, in any order: a file that the kernel writes through FUSE (fuse(4)).

A loop device on that file passes on what the file system writes to it, and each flush as an fsync. What was written
before the last flush is on the disk; of what came after it, any part may be, whichever was written first. It is what
dm-log-writes is for, where the kernel has no device mapper.
"""

from __future__ import annotations

import errno
import os
import random
import stat
import struct
import subprocess
import threading

from podium.linux import mount
from podium.linux.syscalls import umount2

MAX_WRITE = 1 << 17
SECTOR = 512
_IN, _OUT = struct.Struct("<IIQQIIII"), struct.Struct("<IiQ")  # struct fuse_in_header, fuse_out_header
_GETATTR, _OPEN, _READ, _WRITE, _STATFS, _RELEASE, _FSYNC, _FLUSH = 3, 14, 15, 16, 17, 18, 20, 25
_INIT, _DESTROY = 26, 38
_UNANSWERED = (2, 36, 42)  # forget, interrupt, batch_forget
_BIG_WRITES, _MAX_PAGES = 1 << 5, 1 << 22


class VolatileFile:
    """One file, mounted on another: `path` is what the kernel writes.

    Args:
        path: a file, over which it is mounted.
        size: in bytes.
    """

    def __init__(self, path: str, size: int) -> None:
        self.path = path
        self.flushes = 0
        self._size = size
        self._lock = threading.Lock()
        self._pending: list[tuple[int, bytes]] = []
        for name in (path, path + ".live", path + ".flushed"):
            with open(name, "wb") as f:
                f.truncate(size)
        self._live = os.open(path + ".live", os.O_RDWR | os.O_CLOEXEC)
        self._flushed = os.open(path + ".flushed", os.O_RDWR | os.O_CLOEXEC)
        self._fuse = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
        options = f"fd={self._fuse},rootmode={stat.S_IFREG | 0o600:o},user_id=0,group_id=0"
        mount.mount("podium-test", path, "fuse", 0, options)
        self._server = threading.Thread(target=self._serve, daemon=True)
        self._server.start()

    def close(self) -> None:
        """Unmount it; the server ends with that."""
        umount2(self.path, 0)
        self._server.join(60)
        for fd in (self._fuse, self._live, self._flushed):
            os.close(fd)

    def lose_power(self, copy: str, chance: random.Random) -> int:
        """Write into `copy` what would be there if the power went now; returns how many writes were not flushed."""
        with self._lock:
            subprocess.run(["cp", "--sparse=always", self.path + ".flushed", copy], check=True)
            pending = list(self._pending)
        chance.shuffle(pending)
        kept = chance.choice((0.0, 0.1, 0.5, 0.9))
        with open(copy, "r+b") as f:
            for offset, data in pending:
                if chance.random() < kept:
                    whole = chance.random() < 0.8  # else it was under way, and some sectors were written
                    f.seek(offset)
                    f.write(data if whole else data[: chance.randrange(len(data)) // SECTOR * SECTOR])
        return len(pending)

    def _serve(self) -> None:
        while True:
            try:
                request = os.read(self._fuse, MAX_WRITE + 8192)
            except OSError as e:
                if e.errno == errno.ENODEV:  # it was unmounted
                    return
                if e.errno in (errno.EINTR, errno.ENOENT):
                    continue
                raise
            _, opcode, unique, *_ = _IN.unpack_from(request)
            if opcode not in _UNANSWERED:
                code, answer = self._answer(opcode, request[_IN.size :])
                try:
                    os.write(self._fuse, _OUT.pack(_OUT.size + len(answer), -code, unique) + answer)
                except FileNotFoundError:
                    pass  # who asked was killed meanwhile

    def _answer(self, opcode: int, body: bytes) -> tuple[int, bytes]:
        if opcode == _READ:
            _, offset, size = struct.unpack_from("<QQI", body)
            return 0, os.pread(self._live, size, offset)
        if opcode == _WRITE:
            _, offset, size = struct.unpack_from("<QQI", body)
            data = body[40 : 40 + size]
            with self._lock:
                os.pwrite(self._live, data, offset)
                self._pending.append((offset, data))
            return 0, struct.pack("<II", size, 0)
        if opcode == _FSYNC:
            with self._lock:
                for offset, data in self._pending:
                    os.pwrite(self._flushed, data, offset)
                self._pending.clear()
                self.flushes += 1
            return 0, b""
        if opcode == _INIT:
            major, minor, readahead, _ = struct.unpack_from("<IIII", body)
            flags = _BIG_WRITES | _MAX_PAGES
            sizes = struct.pack("<HHIIHHI28x", 16, 12, MAX_WRITE, 1, MAX_WRITE // 4096, 0, 0)
            return 0, struct.pack("<IIII", major, min(minor, 31), readahead, flags) + sizes
        if opcode == _GETATTR:
            times = (0, 0, 0, 0, 0, 0)
            about = (1, self._size, self._size // 512, *times, stat.S_IFREG | 0o600, 1, 0, 0, 0, 4096, 0)
            return 0, struct.pack("<QII", 3600, 0, 0) + struct.pack("<6Q10I", *about)
        if opcode == _OPEN:
            return 0, struct.pack("<QII", 1, 0, 0)
        if opcode == _STATFS:
            return 0, struct.pack("<5Q4I24x", 0, 0, 0, 0, 0, 4096, 255, 4096, 0)
        if opcode in (_RELEASE, _FLUSH, _DESTROY):
            return 0, b""
        return errno.ENOSYS, b""
