"""What a supervisor does while nothing is to be decided: it copies streams and waits.

It is all that a supervisor at rest has in memory (podium.stage1.waiter), so nothing is imported here that it can do
without.
"""

from __future__ import annotations

import os
import select

from podium.linux.signals import FORWARDED, signal
from podium.sandbox import plugin_log
from podium.sandbox.notify import Readiness
from podium.sandbox.stdio import AppLog, JournalPump, LogPump, Pump, Terminal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any, Self

    from podium.sandbox.console import ConsolePump
    from podium.sandbox.plugin_log import PluginPump
    from podium.types import RemoteSandbox

_HEEDED = (*FORWARDED, signal.SIGCHLD)
HEARD = (*_HEEDED, signal.SIGWINCH, signal.SIGCONT)


def hear() -> int:
    """Have the signals that a supervisor heeds come through a pipe; returns its reading end."""
    wake, writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    for number in HEARD:
        signal.signal(number, lambda *_: None)  # the number comes through the pipe
    return wake


class Waiting:
    """What a supervisor waits for.

    Attributes:
        wake: what `hear` gave.
        caller: the socket of the podium in the foreground, which sends nothing while it lives; -1: there is none.
        readiness: who is told that the pod is ready.
        terminal: of the app, until it is closed.
        keys: the input of the caller's terminal has not ended.
        pumps: the apps' pumps that have a writer left, by app.
        remote: a sandbox with pumps of its own; None at rest.
        of_remote: those of its pumps that are copied at rest.
        called: at rest, there is something for another of its pumps.
    """

    def __init__(self, wake: int, caller: int, readiness: Readiness) -> None:
        self.wake = wake
        self.caller = caller
        self.readiness = readiness
        self.terminal: Terminal | None = None
        self.keys = True
        self.pumps: Sequence[list[Pump]] = ()
        self.remote: RemoteSandbox | None = None
        self.of_remote: list[ConsolePump | PluginPump] = []
        self.called = False
        self._others: Sequence[int] = ()

    def wait(self, timeout: float | None) -> tuple[bytes, bool]:
        """Wait for something, copy what there is to be copied, give the terminal its size.

        Args:
            timeout: milliseconds; None: for ever.

        Returns:
            The signals that are to be heeded, whether the caller is gone.
        """
        pumps = {pump.fileno(): (of_app, pump) for of_app in self.pumps for pump in of_app}
        of_sandbox = self.of_remote if self.remote is None else self.remote.pumps
        own = {pump.fileno(): pump for pump in of_sandbox if pump.fileno() >= 0}
        listening, terminal = self.readiness.filenos(), self.terminal
        watched = [self.wake, *pumps, *own, *self._others, *listening]
        if self.caller >= 0:
            watched.append(self.caller)
        if terminal is not None:
            watched += [terminal.master, terminal.caller_in] if self.keys else [terminal.master]
        poll = select.poll()
        for fd in watched:
            poll.register(fd, select.POLLIN)
        ready = {fd for fd, _ in poll.poll(timeout)}
        plugin_log.bound()
        for fd in ready.intersection(listening):
            self.readiness.receive(fd)
        for fd in ready & own.keys():
            own[fd].pump()
        self.called = bool(ready.intersection(self._others))
        for fd in ready & pumps.keys():
            of_app, pump = pumps[fd]
            if not pump.pump():
                of_app.remove(pump)
        if terminal is not None:
            if terminal.master in ready and not terminal.from_app():
                self.close_terminal()
            elif self.keys and terminal.caller_in in ready:
                self.keys = terminal.to_app()
        return self._signals() if self.wake in ready else b"", self.caller >= 0 and self.caller in ready

    def _signals(self) -> bytes:
        received = os.read(self.wake, 4096)
        if signal.SIGWINCH in received and self.terminal is not None:
            self.terminal.resize()
        return bytes(number for number in received if number in _HEEDED)

    def signalled(self) -> bool:
        """Whether a signal has come that nobody has heeded yet."""
        poll = select.poll()
        poll.register(self.wake, select.POLLIN)
        return bool(poll.poll(0))

    def close_terminal(self) -> None:
        """Close the app's terminal, if it has one."""
        if self.terminal is not None:
            self.terminal.close()
            self.terminal = None

    def handed_on(self, keep: Callable[[int], int]) -> dict[str, Any]:
        """What `taken_over` needs in the process that this one becomes; `keep` is told of what has to stay open."""
        return {
            "caller": self.caller if self.caller < 0 else keep(self.caller),
            "readiness": self.readiness.handed_on(keep),
            "terminal": None if self.terminal is None else self.terminal.handed_on(keep),
            "keys": self.keys,
            "pumps": [[pump.handed_on(keep) for pump in of_app] for of_app in self.pumps],
            **self._remote_handed_on(keep),
        }

    def _remote_handed_on(self, keep: Callable[[int], int]) -> dict[str, Any]:
        if self.remote is None:
            return {"consoles": [], "said": [], "others": []}
        from podium.sandbox.console import ConsolePump
        from podium.sandbox.plugin_log import PluginPump

        pumps = self.remote.pumps
        return {
            "consoles": [pump.handed_on(keep) for pump in pumps if isinstance(pump, ConsolePump)],
            "said": [pump.handed_on(keep) for pump in pumps if isinstance(pump, PluginPump)],
            "others": [keep(pump.fileno()) for pump in pumps if not isinstance(pump, ConsolePump | PluginPump)],
        }

    @classmethod
    def taken_over(cls, record: dict[str, Any]) -> Self:
        """What `handed_on` told of, in the process that hears the signals from now on."""
        made = cls(hear(), record["caller"], Readiness.taken_over(record["readiness"]))
        made.terminal = None if record["terminal"] is None else Terminal.taken_over(record["terminal"])
        made.keys = record["keys"]
        made.pumps = [_pumps(of_app) for of_app in record["pumps"]]
        made._others = record["others"]
        if record["consoles"]:
            from podium.sandbox.console import ConsolePump

            made.of_remote += [ConsolePump.taken_over(console) for console in record["consoles"]]
        if record["said"]:
            from podium.sandbox.plugin_log import PluginPump

            made.of_remote += [PluginPump.taken_over(said) for said in record["said"]]
        return made

    def serve(self, remote: RemoteSandbox | None) -> None:
        """Copy the pumps of a remote sandbox itself, no more what was copied at rest."""
        self.remote, self.of_remote, self._others = remote, [], ()


def _pumps(records: list[dict[str, Any]]) -> list[Pump]:
    """Those of one app, which have one log."""
    logs = [AppLog.taken_over(record["log"]) for record in records if "log" in record][:1]
    return [
        LogPump.taken_over(record, logs[0]) if "log" in record else JournalPump.taken_over(record) for record in records
    ]
