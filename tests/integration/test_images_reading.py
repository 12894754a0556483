"""The process that reads archives: what it tells is what they hold, and it neither outlives its parent nor hangs it."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import time

import pytest

from podium.errors import BadInput, Failed
from podium.store.limits import Limits
from podium.store.unpack import tar
from podium.store.unpack.reading import Reading
from podium.store.unpack.streams import decompressed
from support import oci

SIZES = [0, 1, 511, 512, 10_000, (1 << 20) - 700, 1 << 20, (1 << 20) + 1, 5_000_000, *[3000] * 800]


def archive(work: str, seed: int) -> tuple[str, bytes]:
    data = oci.layer(
        [(f"f{n}", bytes([seed, n & 255]) * (size // 2) + b"x" * (size % 2)) for n, size in enumerate(SIZES)]
    )
    path = os.path.join(work, f"{seed}.tar")
    with open(path, "wb") as f:
        f.write(data)
    return path, data


def children() -> list[int]:
    with open(f"/proc/self/task/{os.getpid()}/children", encoding="ascii") as f:
        return [int(pid) for pid in f.read().split()]


def test_it_gives_what_a_reader_in_this_process_gives(test_dir: str) -> None:
    archives = [archive(test_dir, seed) for seed in (1, 2)]
    with Reading([path for path, _ in archives], Limits()) as reading:
        for path, data in archives:
            with open(path, "rb") as f:
                own = tar.Reader(decompressed(f, Limits()), Limits())
                for number, (entry, wanted) in enumerate(zip(reading, own, strict=True)):
                    assert entry == wanted
                    content = b"".join(own.content())
                    if number % 7:  # else nobody wants it
                        assert b"".join(map(bytes, reading.content())) == content
                        small = len(content) <= 1 << 20
                        assert reading.digest == (hashlib.sha256(content).digest() if small else None)
            assert reading.sha256 == hashlib.sha256(data).hexdigest()


def test_what_is_wrong_is_told_after_what_was_right(test_dir: str) -> None:
    path, data = archive(test_dir, 3)
    with open(path, "wb") as f:
        f.write(data[: len(data) - 1_000_000])
    names = []
    with Reading([path], Limits()) as reading, pytest.raises(BadInput, match="middle of an entry"):
        for entry in reading:
            names.append(entry.name)
    assert names[:5] == ["f0", "f1", "f2", "f3", "f4"]


def test_its_death_is_told(test_dir: str) -> None:
    path, _ = archive(test_dir, 4)
    before = children()
    with Reading([path], Limits()) as reading:
        entries = iter(reading)
        assert next(entries).name == "f0"
        (pid,) = set(children()) - set(before)
        os.kill(pid, signal.SIGKILL)
        with pytest.raises(Failed, match="was killed"):
            list(entries)
    assert children() == before


def test_it_ends_with_its_parent(test_dir: str) -> None:
    path, _ = archive(test_dir, 5)
    code = f"""
from podium.store.unpack.reading import Reading
from podium.store.limits import Limits
import os
reading = Reading([{path!r}], Limits())
print(next(iter(reading)).name, open(f"/proc/self/task/{{os.getpid()}}/children").read(), flush=True)
input()
"""
    parent = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    with parent:
        assert parent.stdout is not None
        name, pid = parent.stdout.readline().split()
        assert name == "f0"
        assert os.path.exists(f"/proc/{pid}")
        parent.kill()
    end = time.monotonic() + 10
    while os.path.exists(f"/proc/{pid}") and time.monotonic() < end:
        time.sleep(0.01)
    assert not os.path.exists(f"/proc/{pid}")
