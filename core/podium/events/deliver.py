"""The process that tells consumers of events: `python -m podium.events.deliver ROOT HOOKS`.

One at a time for a data directory, so that each consumer sees events in order. It reads the log from where the last
one stopped, and ends when nothing is left. Each consumer is called in a process of its own, with a time limit; what
goes wrong is kept in events/failures. A kill repeats the event that was being delivered, with its id.
"""

from __future__ import annotations

import os
import subprocess
import sys

from podium import records
from podium.clock import rfc3339
from podium.errors import Corrupt
from podium.events import consumers, log, toml_hooks
from podium.events.record import Event
from podium.linux.files import write_atomic
from podium.linux.lockfile import locked
from podium.named import NamedTuple
from podium.paths import DataDir
from podium.trace import trace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

PLUGIN_TIMEOUT = 10.0  # seconds
FAILURES = "failures"
_MAX_FAILURES = 1 << 20  # bytes; then the older half goes
_STDERR = 4096  # bytes that are kept


class Outcome(NamedTuple):
    """What became of one call: `message` says what went wrong, None: nothing."""

    consumer: str
    message: str | None
    stderr: str


def call(
    consumer: str, argv: Sequence[str], event: Event, timeout: float, environment: dict[str, str], cwd: str = "/"
) -> Outcome:
    """Run a command with the event as JSON on its standard input; it and its children are killed when time is up."""
    import json
    import signal
    import tempfile

    env = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "PODIUM_EVENT": event.kind}
    message: str | None = None
    with tempfile.TemporaryFile() as errors:
        try:
            process = subprocess.Popen(
                argv,
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=errors,
                env={**env, **environment},
                cwd=cwd,
                start_new_session=True,
            )
        except OSError as e:
            return Outcome(consumer, f"it can't be started: {e.strerror}", "")
        try:
            process.communicate(json.dumps(event.to_json()).encode() + b"\n", timeout)
            if process.returncode:
                message = f"it ended with {process.returncode}"
        except subprocess.TimeoutExpired:
            message = f"it took longer than {timeout:g} s and was killed"
            os.killpg(process.pid, signal.SIGKILL)  # not yet waited for, so the number is its own
            process.wait()
        errors.seek(max(0, errors.seek(0, os.SEEK_END) - _STDERR))
        return Outcome(consumer, message, errors.read().decode(errors="replace"))


def tell(event: Event, hooks: Sequence[toml_hooks.TomlHook], plugins: Sequence[tuple[str, str, str]]) -> list[Outcome]:
    """Tell every consumer that wants it of one event."""
    outcomes = [call(f"hook {h.name}", h.command, event, h.timeout, h.environment) for h in hooks if h.wants(event)]
    for name, entry, _ in plugins:
        argv = [sys.executable, "-m", "podium.events.plugin", entry]
        outcomes.append(call(f"plugin {name}", argv, event, PLUGIN_TIMEOUT, {}))
    return outcomes


def failures(data: DataDir) -> list[dict[str, Any]]:
    """What went wrong, the oldest first."""
    found = []
    try:
        with open(os.path.join(data.events, FAILURES), "rb") as f:
            for line in f:
                try:
                    found.append(records.unseal(line, "a failure"))
                except Corrupt:
                    continue
    except FileNotFoundError:
        pass
    return found


def _keep(data: DataDir, event: Event, outcome: Outcome) -> None:
    path = os.path.join(data.events, FAILURES)
    record = {"time": rfc3339(), "event": event.id, "subject": event.subject, **outcome._asdict()}
    line = records.seal(record) + b"\n"
    try:
        with open(path, "rb") as f:
            old = f.read()
    except FileNotFoundError:
        old = b""
    if len(old) > _MAX_FAILURES:
        old = old[old.index(b"\n", len(old) // 2) + 1 :]
    write_atomic(path, old + line, 0o600, durable=False)


def deliver(data: DataDir, folder: str) -> None:
    """Tell everybody of everything that is new. Waits for whoever is at it."""
    # Waiting, not giving up: who holds it may have read the log just before our event was there.
    with locked(consumers.lock(data)):
        hooks, plugins, done = toml_hooks.load(folder)[0], consumers.scan(), log.delivered(data)
        for event in log.read(data, done):
            for outcome in tell(event, hooks, plugins):
                if outcome.message is not None:
                    _keep(data, event, outcome)
            trace("event:told")
            consumers.advance(data, event.seq)


def main(root: str, folder: str, mounts: str = "") -> None:
    """Deliver in a process that is nobody's child, and holds no descriptor of who started it."""
    if os.fork():
        os._exit(0)
    if mounts:
        from podium.linux import namespaces

        namespaces.setns(consumers.MOUNTS, namespaces.CLONE_NEWNS)
    os.setsid()
    os.closerange(3, 4096)
    os.chdir("/")
    deliver(DataDir(root), folder)


if __name__ == "__main__":
    main(*sys.argv[1:])
