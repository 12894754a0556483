"""Progress of long work, on standard error when that is a terminal."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator

from podium.cli.output import clean
from podium.units import human_size

Progress = Callable[..., None]
_INTERVAL = 0.1  # seconds between two looks
_WIDTH = 24


@contextlib.contextmanager
def shown(what: str) -> Iterator[Progress | None]:
    """A function to be called with bytes done, bytes in all (or None) and files done; None where nobody would see.

    What is shown is wiped at the end of the block, and when None is done: the work has ended, the block has not.
    """
    if not sys.stderr.isatty():
        yield None
        return
    last = 0.0

    def wipe() -> None:
        nonlocal last
        if last:
            last = 0.0
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()

    def progress(done: int | None, total: int | None = None, files: int = 0) -> None:
        nonlocal last
        if done is None:
            wipe()
            return
        now = time.monotonic()
        if now - last >= _INTERVAL:
            last = now
            sys.stderr.write(f"\r{line(what, done, total, files)}\x1b[K")
            sys.stderr.flush()

    try:
        yield progress
    finally:
        wipe()


def line(what: str, done: int, total: int | None, files: int) -> str:
    """What is shown, on one line."""
    text = clean(what)
    if total:
        full = min(_WIDTH, _WIDTH * done // total)
        text += f" [{'#' * full}{'.' * (_WIDTH - full)}] {min(100, 100 * done // total)}%"
    text += f" {human_size(done)}"
    return f"{text}, {files} files" if files else text
