"""The caller's side of a worker: start it, call it with a time limit, and say how it failed."""

from __future__ import annotations

import os
import select
import sys
import time
from _socket import socket, socketpair

from podium import errors
from podium.errors import PluginFailed, PodiumError
from podium.linux.signals import name_of, signal
from podium.stage1.protocol import VERSION, BrokenPeer, Channel
from podium.stage1.registry import Plugin
from podium.trace import hook as show
from podium.trace import hooks_shown, trace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

LOAD_TIMEOUT = 30.0  # seconds
_CLOSE_TIMEOUT = 2.0


class Worker:
    """A worker process that serves one plugin.

    Attributes:
        plugin: what it has loaded.
        pid: of the process.
        info: what the plugin says of itself, once loaded.
        usable: it has not crashed, hung or been closed.
        more: it can be asked for more, though it has run a pod.
        pin_folder: of the pin whose code it runs; None: the code installed.
    """

    def __init__(self, plugin: Plugin, pid: int, channel: Channel, output: int) -> None:
        self.plugin = plugin
        self.pid = pid
        self.channel = channel
        self.info: dict[str, Any] = {}
        self.usable = True
        self.more = False
        self.pin_folder: str | None = None
        self._output = output
        self._pidfd = os.pidfd_open(pid)
        self._last = 0
        self._shown: dict[int, tuple[str, float]] = {}  # calls under way: what they are, and since when (monotonic)

    @classmethod
    def start(cls, plugin: Plugin, pin_folder: str | None, keep: Iterable[int] = ()) -> Worker:
        """Start a worker.

        Args:
            plugin: what it will load.
            pin_folder: run the code of this pin, in a fresh interpreter; None: fork, with the code installed.
            keep: descriptors above 2 that it inherits under their numbers; its own 0, 1 and 2 are nothing and a log.
        """
        ours, theirs = socketpair()
        # What is printed before a pod's log takes over, a failed import's traceback for one.
        output = os.memfd_create("podium-worker")
        sys.stdout.flush()
        sys.stderr.flush()
        pid = os.fork()
        if pid == 0:
            _become_worker(theirs, output, pin_folder, {*keep})
        theirs.close()
        worker = cls(plugin, pid, Channel(ours), output)
        worker.pin_folder = pin_folder
        return worker

    def begin_load(self, *, ahead: bool = False) -> int:
        """Let the worker load the plugin, and with `ahead` what a run will need, while the caller does other things."""
        return self.begin("load", None, {"name": self.plugin.name, "entry": self.plugin.entry, "ahead": ahead})

    def loaded(self, number: int) -> None:
        """Wait until it has. Raises PluginRefused, InterfaceMismatch or PluginFailed."""
        self.info = self.result(number, "load", LOAD_TIMEOUT)

    def load(self, *, ahead: bool = False) -> None:
        """See `begin_load` and `loaded`."""
        self.loaded(self.begin_load(ahead=ahead))

    def call(
        self,
        hook: str,
        pod: str | None,
        timeout: float | None,
        args: dict[str, Any] | None = None,
    ) -> Any:
        """Call a hook and wait for its result.

        Args:
            hook: name without the prefix.
            pod: the pod's folder, for hooks that have one.
            timeout: seconds; the worker is killed when they are over. None: no limit.
            args: the hook's arguments.

        Raises:
            PluginFailed: it crashed, hung, or sent what is no answer.
            PodiumError: what the plugin raised.
        """
        trace(f"call:{hook}")
        number = self.begin(hook, pod, args)
        return self.result(number, hook, timeout)

    def begin(self, hook: str, pod: str | None, args: dict[str, Any] | None = None) -> int:
        """Send a request; `result` waits for its answer."""
        self._last += 1
        if hooks_shown():
            self._shown[self._last] = (self._described(hook, pod, args), time.monotonic())
        try:
            self.channel.send({"v": VERSION, "id": self._last, "hook": hook, "pod": pod, "args": args or {}})
        except BrokenPeer:
            raise self._crashed(hook) from None
        return self._last

    def result(
        self,
        number: int,
        hook: str,
        timeout: float | None = None,
        until: str | None = None,
    ) -> Any:
        """Wait for the answer to request `number`, or for the event `until` (then None). See `call`."""
        if number not in self._shown:
            return self._result(number, hook, timeout, until)
        what, since = self._shown.pop(number)
        try:
            result = self._result(number, hook, timeout, until)
        except PodiumError as e:
            show(f"{what}: {(time.monotonic() - since) * 1000:.1f} ms, failed: {e.reason}: {e.message}")
            raise
        show(f"{what}: {(time.monotonic() - since) * 1000:.1f} ms, {until if result is None else result!r}")
        return result

    def _described(self, hook: str, pod: str | None, args: dict[str, Any] | None) -> str:
        """A call for people: which code, what it is given."""
        from podium.stage1.pins import plugin_digest

        plugin = self.plugin
        return (
            f"hook {hook} of {plugin.name} {plugin.version} ({plugin_digest(plugin, self.pin_folder)})"
            + (f" pod {os.path.basename(pod)}" if pod else "")
            + f" {args or {}}"
        )

    def _result(self, number: int, hook: str, timeout: float | None, until: str | None) -> Any:
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            message = self._next(hook, deadline, timeout)
            if message.get("id") != number:
                continue
            if "event" in message:
                if message["event"] == until:
                    return None
            elif "error" in message:
                raise _error(message["error"])
            elif "result" in message:
                self.more = message.get("more") is True
                return message["result"]
            else:
                raise self._failed(hook, "plugin-protocol", "sent an answer without result or error")

    def _next(self, hook: str, deadline: float | None, timeout: float | None) -> dict[str, Any]:
        if not self.channel.pending:
            poll = select.poll()
            poll.register(self.channel, select.POLLIN)
            poll.register(self._pidfd, select.POLLIN)
            left = None if deadline is None else max(0, (deadline - time.monotonic()) * 1000)
            ready = [fd for fd, _ in poll.poll(left)]
            if not ready:
                self._kill()
                raise self._failed(hook, "plugin-timeout", f"did not return within {timeout:g} s and was killed")
            if self.channel.fileno() not in ready:
                # It ended. A process that it left behind may hold the socket open, so no end of file will tell.
                raise self._crashed(hook)
        try:
            return self.channel.receive(None if deadline is None else max(0.001, deadline - time.monotonic()))
        except TimeoutError:
            self._kill()
            raise self._failed(hook, "plugin-timeout", f"did not return within {timeout:g} s and was killed") from None
        except BrokenPeer:
            raise self._crashed(hook) from None

    def _kill(self) -> None:
        """Kill the worker and what it started in its session."""
        try:
            os.killpg(self.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass

    def _crashed(self, hook: str) -> PluginFailed:
        select.select([self._pidfd], [], [], _CLOSE_TIMEOUT)
        self._kill()
        status = os.waitpid(self.pid, 0)[1] if self.pid else 0
        how = f"was killed by {name_of(os.WTERMSIG(status))}" if os.WIFSIGNALED(status) else "ended"
        return self._failed(hook, "plugin-crashed", f"{how} before it answered", reaped=True)

    def _failed(self, hook: str, reason: str, what: str, *, reaped: bool = False) -> PluginFailed:
        self.usable = False
        if not reaped:
            self._kill()
            os.waitpid(self.pid, 0)
        self.pid = 0
        printed = self.printed().strip().splitlines()
        return PluginFailed(
            f"the {hook} hook of stage1 plugin {self.plugin.name!r} {self.plugin.version} {what}"
            + (f" ({printed[-1][:200]})" if printed else ""),
            reason=reason,
            hint="what it printed is in the pod's plugin.log",
            subject=self.plugin.name,
        )

    def printed(self) -> str:
        """What the worker printed while no pod's log took it."""
        size = os.fstat(self._output).st_size
        return os.pread(self._output, min(size, 1 << 16), 0).decode(errors="replace")

    def reap(self) -> int | None:
        """The wait status, when the worker has ended by itself; None while it has not."""
        if self.pid and os.waitid(os.P_PIDFD, self._pidfd, os.WEXITED | os.WNOHANG | os.WNOWAIT):
            status = os.waitpid(self.pid, 0)[1]
            self.pid = 0
            return status
        return None

    def leave(self) -> None:
        """Let go of a worker that lives on as a pod's supervisor."""
        self.usable = False
        self.channel.close()
        os.close(self._output)
        os.close(self._pidfd)

    def close(self) -> None:
        """End the worker: close the socket, wait a little, then kill."""
        self.channel.close()
        if self.pid:
            if not select.select([self._pidfd], [], [], _CLOSE_TIMEOUT)[0]:
                self._kill()
            os.waitpid(self.pid, 0)
            self.pid = 0
        os.close(self._output)
        os.close(self._pidfd)
        self.usable = False


def _error(error: Any) -> PodiumError:
    return errors.from_json(error if isinstance(error, dict) else {"message": str(error)})


def _become_worker(sock: socket, output: int, pin_folder: str | None, keep: set[int]) -> None:
    """The child's side of the fork: it never returns."""
    try:
        from podium.linux.files import close_all_but

        os.setsid()
        for number in range(1, signal.NSIG):
            if signal.getsignal(number) not in (signal.SIG_DFL, None):
                signal.signal(number, signal.SIG_DFL)
        signal.signal(signal.SIGPIPE, signal.SIG_IGN)  # a caller that is gone makes a write fail, and no more
        fd = sock.detach()
        null = os.open(os.devnull, os.O_RDWR)
        for target, source in ((0, null), (1, output), (2, output)):
            os.dup2(source, target)
        close_all_but({0, 1, 2, fd, *keep})
        os.chdir("/")
        os.umask(0o022)
        if pin_folder is None:
            from podium.stage1.worker import serve_fd

            sys.stdout = sys.stderr = os.fdopen(1, "w", closefd=False)
            serve_fd(fd)
        else:
            _execute_pin(pin_folder, fd, keep)
        os._exit(0)
    except BaseException:
        import traceback

        os.write(2, traceback.format_exc().encode())
    finally:
        os._exit(70)


def _execute_pin(pin_folder: str, fd: int, keep: set[int]) -> None:
    from podium.quickjson import dumps
    from podium.stage1.pins import BOOT, native_paths

    for number in (fd, *keep):
        os.set_inheritable(number, True)
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
    environment["PODIUM_NATIVE_PATH"] = dumps(native_paths())
    argv = [sys.executable, "-I", "-S", "-B", os.path.join(pin_folder, BOOT), str(fd)]
    os.execve(sys.executable, argv, environment)
