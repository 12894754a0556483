"""`enter`: ports that are plugged into the running machine, and a guest's agent that serves them."""

from __future__ import annotations

import _socket
import os

from podium.errors import Failed, WrongState
from podium.types import EnterRequest, Pod
from podium_kvm.files import folder
from podium_kvm.machine import ENTER_BUS, STREAMS
from podium_kvm.qmp import Command, Qmp

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

_READY_TIMEOUT = 30.0  # seconds; an emulated guest on a busy host has needed more than 10
_PREFIX = "_e"  # no app's name begins so


def enter(pod: Pod, request: EnterRequest) -> int:
    """Run a command beside an app, with all of the app's restrictions and in its cgroup; returns its exit code.

    Raises:
        WrongState: the app does not run.
        Failed: the guest has no port left, or does not answer.
    """
    caller = os.getppid()
    try:
        key, ends = _plug(pod, request.app)
    except Failed:  # of ports that killed commands have left, which are gone now
        key, ends = _plug(pod, request.app)
    try:
        return _serve(pod, request, key, ends, caller)
    finally:
        _close(ends)
        _unplug(pod, key)


def _serve(pod: Pod, request: EnterRequest, key: str, ends: dict[str, _socket.socket], caller: int) -> int:
    """Imports what it needs by itself: meanwhile the guest makes itself ready."""
    import select
    import signal

    from podium.linux.syscalls import pidfd_send_signal
    from podium.sandbox import control
    from podium.sandbox import launch as launches
    from podium_kvm import program, relay

    control.running(pod, request.app)
    launch = launches.read(pod.stage1_dir, request.app)._replace(argv=request.command or control.SHELL)
    launch = launch._replace(cgroup=request.app)
    made = program.build(launch.at_terminal() if request.tty else launch, key, terminal=request.tty)
    if not select.select([ends["ctl"]], [], [], _READY_TIMEOUT)[0]:
        raise Failed("the guest does not answer", hint="see 'podium status'", subject=pod.uuid)
    note = os.memfd_create("podium-enter")
    with _Raw(request.stdio[0] if request.tty else -1):
        signal.pthread_sigmask(signal.SIG_BLOCK, relay.HEARD)  # until there is a relay to pass them on to
        command = relay.Command(
            app=request.app, ends=ends, program=made, stdio=request.stdio, note=note, terminal=request.tty
        )
        pid = relay.start(command)
        pidfd = control.forward_signals(pid, caller)
        signal.signal(signal.SIGWINCH, lambda number, _: pidfd_send_signal(pidfd, number))
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGWINCH})
        status = os.waitpid(pid, 0)[1]
    if os.pread(note, 64, 0) == relay.GONE:
        return 128 + signal.SIGKILL  # the machine has ended, and the command as one that ends with its control group
    try:
        ends["ctl"].sendall(b"end\n")
    except OSError:
        pass  # the machine has ended, too
    return control.exit_code(status)


class _Raw:
    """A terminal that hands every key through: the guest's own makes lines and signals of them. -1: there is none."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def __enter__(self) -> None:
        if self._fd >= 0:
            import termios
            import tty

            self._saved = termios.tcgetattr(self._fd)
            tty.setraw(self._fd, termios.TCSANOW)

    def __exit__(self, *_: object) -> None:
        if self._fd >= 0:
            import termios

            try:
                termios.tcsetattr(self._fd, termios.TCSADRAIN, self._saved)
            except termios.error:
                pass  # it was closed


def _plug(pod: Pod, app: str) -> tuple[str, dict[str, _socket.socket]]:
    """Plug ports in and have the guest serve them; returns how they are called and the host's ends."""
    key = f"{_PREFIX}{os.urandom(4).hex()}"
    pairs = {stream: _socket.socketpair() for stream in STREAMS}
    ends = {stream: ours for stream, (ours, _) in pairs.items()}
    wanted = [c for stream, (_, theirs) in pairs.items() for c in _plugging(f"{key}.{stream}", stream, theirs.fileno())]
    try:
        with Qmp(folder(pod)) as qmp:
            try:
                qmp.commands(wanted)
            except Failed:
                _tidy(qmp)
                raise
            _call(pod, key, app)
            _tidy(qmp)  # meanwhile the guest makes itself ready
    except BaseException:
        _close(ends)
        raise
    finally:
        _close({stream: theirs for stream, (_, theirs) in pairs.items()})
    return key, ends


def _plugging(name: str, stream: str, fd: int) -> Iterator[Command]:
    backend = {"type": "socket", "data": {"addr": {"type": "fd", "data": {"str": stream}}, "server": False}}
    device = {"driver": "virtserialport", "bus": f"{ENTER_BUS}.0", "id": f"d.{name}"}
    yield Command(name="getfd", arguments={"fdname": stream}, fd=fd)
    yield Command(name="chardev-add", arguments={"id": f"p.{name}", "backend": backend})
    yield Command(name="device_add", arguments={**device, "chardev": f"p.{name}", "name": name})


def _close(ends: dict[str, _socket.socket]) -> None:
    for end in ends.values():
        end.close()


def _tidy(qmp: Qmp) -> None:
    """Remove what earlier commands have left whose host's ends are closed: what was behind the ports, or these, too.

    QEMU lets go of a port that was unplugged only after 50 ms, which nobody is to wait for; and a command's `podium`
    may have been killed before.
    """
    left = [
        device["label"].removeprefix("p.")
        for device in qmp.commands([Command(name="query-chardev")])[0]
        if device["label"].startswith(f"p.{_PREFIX}") and device["filename"].startswith("disconnected")
    ]
    removing = [Command(name="chardev-remove", arguments={"id": f"p.{name}"}) for name in left]
    removed = qmp.commands(removing, tolerant=True)
    plugged = [name for name, answer in zip(left, removed, strict=True) if answer is None]
    qmp.commands([_unplugging(name) for name in plugged], tolerant=True)


def _unplugging(name: str) -> Command:
    return Command(name="device_del", arguments={"id": f"d.{name}"})


def _call(pod: Pod, key: str, app: str) -> None:
    """Have the guest serve the ports; a short line is written to a fifo as a whole (pipe(7))."""
    try:
        fd = os.open(os.path.join(folder(pod), "ctl"), os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as e:
        raise WrongState(f"the virtual machine is not running: {e.strerror}", subject=pod.uuid) from None
    try:
        os.write(fd, f"enter {key} {app}\n".encode())
    finally:
        os.close(fd)


def _unplug(pod: Pod, key: str) -> None:
    try:
        with Qmp(folder(pod)) as qmp:
            qmp.commands([_unplugging(f"{key}.{stream}") for stream in STREAMS], tolerant=True)
    except (Failed, WrongState) as e:
        print(f"the ports of an enter stay until the next: {e.message}", flush=True)
