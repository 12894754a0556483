"""`enter`: ports that are plugged into the running machine, and a guest's agent that serves them."""

from __future__ import annotations

import os
import secrets
import select
import signal
import socket
import time
from contextlib import nullcontext
from typing import Any

from podium.errors import Failed, WrongState
from podium.linux.signals import FORWARDED
from podium.sandbox import control
from podium.sandbox import launch as launches
from podium.types import EnterRequest, Pod
from podium_kvm import bridge, program
from podium_kvm.machine import ENTER_BUS
from podium_kvm.qmp import Qmp
from podium_kvm.sandbox import folder

_READY_TIMEOUT = 10.0  # seconds
_TRIES = 100


def enter(pod: Pod, request: EnterRequest) -> int:
    """Run a command beside an app, with all of the app's restrictions and in its cgroup; returns its exit code.

    Raises:
        WrongState: the app does not run.
        Failed: the guest has no port left, or does not answer.
    """
    caller = os.getppid()
    control.running(pod, request.app)
    wake = bridge.listen()
    launch = launches.read(pod.stage1_dir, request.app)._replace(argv=request.command or control.SHELL)
    made = program.build(launch._replace(cgroup=request.app), terminal=request.tty)
    key = f"enter-{secrets.token_hex(6)}"
    ends = _plug(pod, key)
    try:
        _call(pod, key, request.app)
        if not select.select([ends["ctl"]], [], [], _READY_TIMEOUT)[0]:
            raise Failed("the guest does not answer", hint="see 'podium status'", subject=pod.uuid)
        with bridge.raw(request.stdio[0]) if request.tty else nullcontext():
            status = bridge.Bridge(ends).run(
                made, request.stdio, wake, lambda: os.getppid() != caller, terminal=request.tty
            )
        ends["ctl"].sendall(b"end\n")
    finally:
        for end in ends.values():
            end.close()
        _unplug(pod, key)
    code = os.waitstatus_to_exitcode(status)
    return 128 - code if code < 0 else code


def _plug(pod: Pod, key: str) -> dict[str, socket.socket]:
    ends: dict[str, socket.socket] = {}
    with Qmp(folder(pod)) as qmp:
        for stream in bridge.STREAMS:
            name = f"{key}.{stream}"
            ours, theirs = socket.socketpair()
            ends[stream] = ours
            with theirs:
                qmp.command("getfd", fds=[theirs.fileno()], fdname=name)
            backend = {"type": "socket", "data": {"addr": {"type": "fd", "data": {"str": name}}, "server": False}}
            qmp.command("chardev-add", id=f"p.{name}", backend=backend)
            device: dict[str, Any] = {"driver": "virtserialport", "bus": f"{ENTER_BUS}.0", "id": f"d.{name}"}
            qmp.command("device_add", **device, chardev=f"p.{name}", name=name)
    return ends


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
    signal.pthread_sigmask(signal.SIG_BLOCK, FORWARDED)
    try:
        with Qmp(folder(pod)) as qmp:
            for stream in bridge.STREAMS:
                qmp.command("device_del", id=f"d.{key}.{stream}")
            for stream in bridge.STREAMS:
                _remove(qmp, f"p.{key}.{stream}")
    except (Failed, WrongState) as e:
        print(f"the ports of an enter stay: {e.message}", flush=True)


def _remove(qmp: Qmp, chardev: str) -> None:
    """Remove a character device, which its port, unplugged a moment ago, may still hold."""
    for _ in range(_TRIES):
        try:
            qmp.command("chardev-remove", id=chardev)
            return
        except Failed:
            time.sleep(0.01)
    qmp.command("chardev-remove", id=chardev)
