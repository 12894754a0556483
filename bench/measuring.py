"""What the measurements have in common: processes timed in turns, a small image, a data directory that is removed."""

from __future__ import annotations

import argparse
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

PODIUM = os.path.join(os.path.dirname(sys.executable), "podium")
_WARM_UP = 3  # rounds that are not counted


def arguments(description: str | None, rounds: int) -> argparse.Namespace:
    """The command line: --rounds alone."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=rounds, help=f"of each command, in turns (default {rounds})")
    return parser.parse_args()


@contextmanager
def data_directory() -> Iterator[str]:
    """A data directory of its own, removed afterwards: in /var/tmp, or on the disk where PODIUM_BENCH_DIR is."""
    root = tempfile.mkdtemp(prefix="podium-bench-", dir=os.environ.get("PODIUM_BENCH_DIR", "/var/tmp"))
    try:
        yield root
    finally:
        shutil.rmtree(root)


def podium(root: str, *words: str) -> list[str]:
    """A command line of podium."""
    return [PODIUM, "--dir", root, *words]


def run(command: Sequence[str]) -> None:
    """Run a command that has to succeed."""
    subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, check=True)


def make_rootfs(folder: str) -> None:
    """A rootfs with a static busybox as sh, sleep and true (Debian: busybox-static)."""
    busybox = shutil.which("busybox")
    if busybox is None:
        raise SystemExit("there is no busybox: apt-get install busybox-static")
    os.makedirs(os.path.join(folder, "bin"))
    shutil.copy(busybox, os.path.join(folder, "bin/busybox"))
    for name in ("sh", "sleep", "true"):
        os.symlink("busybox", os.path.join(folder, "bin", name))


def with_image(root: str, command: str) -> str:
    """A data directory in `root` with the image `bench`, that small rootfs with this command; returns its path."""
    rootfs, data = os.path.join(root, "rootfs-of-bench"), os.path.join(root, "data")
    make_rootfs(rootfs)
    run(podium(data, "image", "import", rootfs, "--name", "bench", "--exec", command))
    return data


def in_turns(commands: Mapping[str, Sequence[str]], rounds: int, pause: float = 0.0) -> dict[str, list[float]]:
    """Milliseconds that each run of each command took, sorted; the commands take turns, so that noise meets all.

    Each round has another order: what a command leaves to the kernel to end, as a namespace, slows the next down.

    Args:
        commands: by name.
        rounds: how many of each.
        pause: seconds before each, for what the one before has left to end.
    """
    taken: dict[str, list[float]] = {name: [] for name in commands}
    order, chance = list(commands), random.Random(0)
    for number in range(_WARM_UP + rounds):
        chance.shuffle(order)
        for name in order:
            time.sleep(pause)
            milliseconds = _timed(commands[name])
            if number >= _WARM_UP:
                taken[name].append(milliseconds)
    return {name: sorted(values) for name, values in taken.items()}


def _timed(command: Sequence[str]) -> float:
    quiet = [(os.POSIX_SPAWN_OPEN, fd, os.devnull, os.O_RDWR, 0) for fd in (0, 1)]
    path = shutil.which(command[0])
    assert path is not None, command[0]
    start = time.perf_counter()
    pid = os.posix_spawn(path, command, os.environ, file_actions=quiet)
    status = os.waitpid(pid, 0)[1]
    taken = (time.perf_counter() - start) * 1000
    if status:
        raise SystemExit(f"{' '.join(command)} ended with {os.waitstatus_to_exitcode(status)}")
    return taken


def median(values: Sequence[float]) -> float:
    """The middle of sorted values."""
    return values[len(values) // 2]


def show(taken: Mapping[str, Sequence[float]]) -> None:
    """Print minimum, median and maximum of each command."""
    width = max(map(len, taken))
    for name, values in taken.items():
        print(f"  {name:{width}}  min {values[0]:7.1f}  median {median(values):7.1f}  max {values[-1]:7.1f} ms")


def verdict(what: str, value: float, budget: float, unit: str) -> None:
    """Print a result beside its budget."""
    print(f"  {what}: {value:.2f}{unit}, budget {budget:g}{unit}: {'met' if value <= budget else 'MISSED'}")
