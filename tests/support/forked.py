"""The podium command in a fork of the tests' process, which has all of podium in memory: a third of the time of a new
interpreter, for tests that run it some hundred times. What is started, or is `using` another podium, is the command.
"""

from __future__ import annotations

import functools
import importlib
import os
import pkgutil
import select
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from typing import IO, NoReturn

import podium
from podium import trace
from podium.testing.command import Podium, Result


class ForkedPodium(Podium):
    """See the module."""

    def using(self, binary: str, config: str | None = None, **env: str) -> Podium:
        """See `Podium`; a fork likewise, if it is the same podium."""
        made = super().using(binary, config, **env)
        if binary != self.binary:
            return made
        return ForkedPodium(self.dir, made.config, self._scope, binary, made.env)

    def _done(self, args: Sequence[str], input: str | None, timeout: float) -> Result:
        path = _import_path(self.binary)
        with tempfile.TemporaryFile() as given, tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            given.write((input or "").encode())
            given.seek(0)
            pid = os.fork()
            if pid == 0:
                self._become(args, path, (given, out, err))
            code = _waited(pid, timeout, self.argv(*args))
            said = []
            for file in (out, err):
                file.seek(0)
                said.append(file.read().decode(errors="surrogateescape"))
        return Result(self.argv(*args), code, *said)

    def _become(self, args: Sequence[str], path: Sequence[str], streams: Sequence[IO[bytes]]) -> NoReturn:
        """The child's side of the fork: what a new interpreter would have been."""
        try:
            for number, file in enumerate(streams):
                os.dup2(file.fileno(), number)
            os.closerange(3, 4096)
            for number in range(1, signal.NSIG):
                if signal.getsignal(number) not in (signal.SIG_DFL, signal.SIG_IGN, None):
                    signal.signal(number, signal.SIG_DFL)
            signal.signal(signal.SIGINT, signal.default_int_handler)
            sys.stdin, sys.stdout, sys.stderr = (open(n, "rw"[n > 0], closefd=False) for n in (0, 1, 2))  # noqa: SIM115
            environment = self.environment()
            os.environ.clear()
            os.environ.update(environment)
            own = [folder for folder in environment.get("PYTHONPATH", "").split(":") if folder]
            sys.path[:] = [os.path.dirname(self.binary), *own, *path]
            sys.argv[:] = self.argv(*args)
            importlib.invalidate_caches()
            importlib.reload(trace)  # it has looked for PODIUM_TRACE_… already
            from podium.cli.main import main

            main()
        except BaseException:
            import traceback

            os.write(2, traceback.format_exc().encode())
        finally:
            os._exit(70)


@functools.cache
def _import_path(binary: str) -> list[str]:
    """Where the command imports from, but for its own folder; all of podium is in memory then."""
    python = os.path.join(os.path.dirname(binary), "python")
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
    asked = [python, "-c", "import sys; print(*sys.path[1:], sep='\\n')"]
    done = subprocess.run(asked, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True)
    for module in pkgutil.walk_packages(podium.__path__, "podium."):
        if module.name != "podium.__main__" and not module.name.startswith("podium.testing"):
            importlib.import_module(module.name)
    return done.stdout.splitlines()


def _waited(pid: int, timeout: float, argv: list[str]) -> int:
    pidfd = os.pidfd_open(pid)
    try:
        if not select.select([pidfd], [], [], timeout)[0]:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            raise subprocess.TimeoutExpired(argv, timeout)
    finally:
        os.close(pidfd)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
