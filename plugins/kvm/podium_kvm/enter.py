"""`enter`: ports that are plugged into the running machine, and a guest's agent that serves them."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress

from podium.errors import Failed, WrongState
from podium.types import EnterRequest, Pod
from podium_kvm.files import folder
from podium_kvm.machine import ENTER_BUS, STREAMS
from podium_kvm.qmp import Qmp

_READY_TIMEOUT = 10.0  # seconds
_PREFIX = "_enter-"  # no app's name begins so


def enter(pod: Pod, request: EnterRequest) -> int:
    """Run a command beside an app, with all of the app's restrictions and in its cgroup; returns its exit code.

    Raises:
        WrongState: the app does not run.
        Failed: the guest has no port left, or does not answer.
    """
    caller = os.getppid()
    key = f"{_PREFIX}{os.urandom(6).hex()}"
    ends = _plug(pod, key)
    try:
        _call(pod, key, request.app)
        return _serve(pod, request, ends, caller)
    finally:
        for end in ends.values():
            end.close()
        _unplug(pod, key)


def _serve(pod: Pod, request: EnterRequest, ends: dict[str, socket.socket], caller: int) -> int:
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
    made = program.build(launch.at_terminal() if request.tty else launch, terminal=request.tty)
    if not select.select([ends["ctl"]], [], [], _READY_TIMEOUT)[0]:
        raise Failed("the guest does not answer", hint="see 'podium status'", subject=pod.uuid)
    note = os.memfd_create("podium-enter")
    with _raw(request.stdio[0]) if request.tty else nullcontext():
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
    ends["ctl"].sendall(b"end\n")
    return control.exit_code(status)


@contextmanager
def _raw(fd: int) -> Iterator[None]:
    """A terminal that hands every key through: the guest's own makes lines and signals of them."""
    import termios
    import tty

    saved = termios.tcgetattr(fd)
    tty.setraw(fd, termios.TCSANOW)
    try:
        yield
    finally:
        with suppress(termios.error):  # it was closed
            termios.tcsetattr(fd, termios.TCSADRAIN, saved)


def _plug(pod: Pod, key: str) -> dict[str, socket.socket]:
    ends: dict[str, socket.socket] = {}
    with Qmp(folder(pod)) as qmp:
        _tidy(qmp)
        for stream in STREAMS:
            name = f"{key}.{stream}"
            ours, theirs = socket.socketpair()
            ends[stream] = ours
            with theirs:
                qmp.command("getfd", fds=[theirs.fileno()], fdname=name)
            backend = {"type": "socket", "data": {"addr": {"type": "fd", "data": {"str": name}}, "server": False}}
            device = {"driver": "virtserialport", "bus": f"{ENTER_BUS}.0", "id": f"d.{name}"}
            qmp.commands(
                [
                    ("chardev-add", {"id": f"p.{name}", "backend": backend}),
                    ("device_add", {**device, "chardev": f"p.{name}", "name": name}),
                ]
            )
    return ends


def _tidy(qmp: Qmp) -> None:
    """Remove what earlier commands have left whose host's ends are closed: the ports, and what was behind them.

    QEMU lets go of a port that was unplugged only after 50 ms, which nobody is to wait for; and a command's `podium`
    may have been killed.
    """
    left = [
        device["label"].removeprefix("p.")
        for device in qmp.command("query-chardev")
        if device["label"].startswith(f"p.{_PREFIX}") and device["filename"].startswith("disconnected")
    ]
    if left:
        qmp.commands([("device_del", {"id": f"d.{name}"}) for name in left], tolerant=True)
        qmp.commands([("chardev-remove", {"id": f"p.{name}"}) for name in left], tolerant=True)


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
            qmp.commands([("device_del", {"id": f"d.{key}.{stream}"}) for stream in STREAMS], tolerant=True)
    except (Failed, WrongState) as e:
        print(f"the ports of an enter stay until the next: {e.message}", flush=True)
