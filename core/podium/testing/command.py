"""The podium command, run as a user runs it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from podium.testing.snapshot import Scope

INSTALLED = os.path.join(os.path.dirname(sys.executable), "podium")
_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
TIMEOUT = 120.0  # seconds; a hang is a failure, not a wait for ever

Result = subprocess.CompletedProcess[str]


class Podium:
    """A podium command on one data directory.

    Attributes:
        dir: the data directory.
        config: the file of --config.
        binary: the command, or a list of its words.
        env: what is added to the environment.
    """

    def __init__(
        self, dir: str, config: str, scope: Scope, binary: str = INSTALLED, env: Mapping[str, str] | None = None
    ) -> None:
        self.dir = dir
        self.config = config
        self.binary = binary
        self.env = dict(env or {})
        self._scope = scope

    def using(self, binary: str, config: str | None = None, **env: str) -> Podium:
        """The same data directory with another podium (that of a venv), its configuration, or more environment."""
        return Podium(self.dir, config or self.config, self._scope, binary, {**self.env, **env})

    def argv(self, *args: str) -> list[str]:
        """The whole command line."""
        return [self.binary, "--dir", self.dir, "--config", self.config, *args]

    def environment(self) -> dict[str, str]:
        """The environment: ours without PODIUM_*, and `env`."""
        inherited = {k: v for k, v in os.environ.items() if not k.startswith(("PODIUM_", "PYTEST_", "PYTHON"))}
        return {**inherited, **self.env}

    def __call__(self, *args: str, check: int | None = 0, input: str | None = None, timeout: float = TIMEOUT) -> Result:
        """Run it.

        Args:
            args: after the global options.
            check: the exit code that it must have; None: any.
            input: standard input; None: nothing there.
            timeout: seconds.
        """
        done = self._done(args, input, timeout)
        self._scope.marks.update(_UUID.findall(done.stdout + done.stderr))
        assert "Traceback (most recent call last)" not in done.stderr, done.stderr
        if check is not None:
            told = f"podium {' '.join(args)}\nexited {done.returncode}, not {check}\n{done.stdout}\n{done.stderr}"
            assert done.returncode == check, told
        return done

    def _done(self, args: Sequence[str], input: str | None, timeout: float) -> Result:
        return subprocess.run(
            self.argv(*args),
            **({"stdin": subprocess.DEVNULL} if input is None else {"input": input}),
            env=self.environment(),
            capture_output=True,
            text=True,
            errors="surrogateescape",
            timeout=timeout,
            check=False,
        )

    def start(self, *args: str, **popen: Any) -> subprocess.Popen[str]:
        """Start it and return at once, with pipes on all three streams unless said otherwise."""
        pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        return subprocess.Popen(self.argv(*args), env=self.environment(), text=True, **{**pipes, **popen})

    def json(self, *args: str, check: int | None = 0) -> Any:
        """Run it with `--format json` and parse what it prints."""
        return json.loads(self(*args, "--format", "json", check=check).stdout)

    def out(self, *args: str) -> str:
        """Run it; what it prints, without the last newline."""
        return self(*args).stdout.rstrip("\n")

    def pods(self) -> dict[str, Any]:
        """uuid → what `list` says of the pod."""
        return {pod["uuid"]: pod for pod in self.json("list")["pods"]}
