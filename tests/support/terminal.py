"""A command on a real pseudo terminal, as a person has it."""

from __future__ import annotations

import fcntl
import os
import select
import struct
import subprocess
import termios
import time
from collections.abc import Mapping, Sequence

PATIENCE = 20.0  # seconds


class Screen:
    """A process whose controlling terminal is ours.

    Attributes:
        process: the process.
        shown: all that it has printed.
    """

    def __init__(self, argv: Sequence[str], env: Mapping[str, str], rows: int = 24, columns: int = 80) -> None:
        self.master, self.slave = os.openpty()
        self.resize(rows, columns)
        self.settings = termios.tcgetattr(self.slave)
        self.shown = ""
        self.process = subprocess.Popen(
            argv,
            env=dict(env),
            stdin=self.slave,
            stdout=self.slave,
            stderr=self.slave,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )

    def resize(self, rows: int, columns: int) -> None:
        """Change the window's size."""
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def send(self, keys: str) -> None:
        """Press keys."""
        os.write(self.master, keys.encode())

    def until(self, text: str, patience: float = PATIENCE) -> str:
        """Wait until `text` is shown; returns what was shown until then, and forgets it."""
        deadline = time.monotonic() + patience
        while text not in self.shown:
            left = deadline - time.monotonic()
            assert left > 0, f"{text!r} is not shown: {self.shown!r}"
            if select.select([self.master], [], [], left)[0]:
                try:
                    data = os.read(self.master, 1 << 16)
                except OSError:  # EIO: nobody has the terminal open
                    data = b""
                assert data, f"{text!r} was not shown: {self.shown!r}"
                self.shown += data.decode(errors="replace")
        before, _, self.shown = self.shown.partition(text)
        return before + text

    def end(self) -> int:
        """Wait for the process; returns its exit code. The rest that it prints is added to `shown`."""
        deadline = time.monotonic() + PATIENCE
        while self.process.poll() is None:
            assert time.monotonic() < deadline, f"it does not end: {self.shown!r}"
            if select.select([self.master], [], [], 0.05)[0]:
                self.shown += os.read(self.master, 1 << 16).decode(errors="replace")
        while select.select([self.master], [], [], 0)[0]:
            self.shown += os.read(self.master, 1 << 16).decode(errors="replace")
        return self.process.returncode

    def close(self) -> None:
        """End it if it runs."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self.master)
        os.close(self.slave)
