"""Ending a running pod, signalling its apps, and entering it: what most stage1 plugins need for these hooks."""

from __future__ import annotations

import os
import select

from podium.errors import Failed, WrongState
from podium.linux import cgroup, procs
from podium.linux.procs import Process
from podium.linux.signals import FORWARDED, signal
from podium.pods import status
from podium.sandbox import launch as launches
from podium.types import EnterRequest, Ledger, Pod, StopRequest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from podium.sandbox.stdio import Terminal

_KILL_TIMEOUT = 10.0  # seconds
SHELL = ("/bin/sh",)


def stop(pod: Pod, request: StopRequest) -> bool:
    """End a pod whose apps are processes of this host, as `stage1_stop` has to.

    The supervisor is asked (it ends the apps in order and restarts none); what is left after the timeout is killed.

    Raises:
        Failed: something survived SIGKILL.
        WrongState: the app that is to get a signal does not run.
    """
    if request.signal is not None:
        return _signal_apps(pod, request.signal, request.app)
    runtime = status.read_runtime(pod.dir)
    supervisor = runtime.supervisor if runtime else None
    if supervisor is not None and not request.force and procs.signal_process(supervisor, signal.SIGTERM):
        procs.wait_end(supervisor, request.timeout)
    if cgroup.populated(pod.cgroup):
        cgroup.kill(pod.cgroup)
    if supervisor is not None and not procs.wait_end(supervisor, _KILL_TIMEOUT):
        # Its apps are gone; a supervisor that does not notice is of no use.
        procs.signal_process(supervisor, signal.SIGKILL)
        procs.wait_end(supervisor, _KILL_TIMEOUT)
    if cgroup.populated(pod.cgroup):
        pids = ", ".join(map(str, cgroup.procs(pod.cgroup)[:5]))
        raise Failed(f"pod {pod.uuid} still has processes after SIGKILL: {pids}", subject=pod.uuid)
    return True


def _signal_apps(pod: Pod, number: int, name: str | None) -> bool:
    if name is not None:
        procs.signal_process(running(pod, name), number)
        return True
    for app in pod.apps:
        process = status.read_app(pod.dir, app.name).process
        if process is not None:
            procs.signal_process(process, number)
    return True


def running(pod: Pod, app: str) -> Process:
    """The first process of an app.

    Raises:
        WrongState: it does not run.
    """
    process = status.read_app(pod.dir, app).process
    if process is None or not procs.alive(process):
        raise WrongState(f"app {app!r} of pod {pod.uuid} does not run", hint="see 'podium status'", subject=pod.uuid)
    return process


def enter(
    pod: Pod,
    request: EnterRequest,
    namespaces: Mapping[str, int],
    default: tuple[str, ...] = SHELL,
    ptmx: str = "/dev/ptmx",
) -> int:
    """Run a command beside an app, with all of the app's restrictions and in its cgroup, as `stage1_enter` has to.

    Args:
        pod: the pod.
        request: what to run.
        namespaces: kind → descriptor of the app's namespaces.
        default: what to run when no command was given.
        ptmx: of the devpts that the app sees.

    Returns:
        The command's exit code, 128 + N for a signal.
    """
    from podium.sandbox import app as apps
    from podium.sandbox.stdio import Terminal

    caller = os.getppid()
    running(pod, request.app)
    launch = launches.read(pod.stage1_dir, request.app)._replace(argv=request.command or default)
    signal.pthread_sigmask(signal.SIG_BLOCK, FORWARDED)  # until there is a command to pass them on to
    if request.tty:
        terminal = Terminal(request.stdio[0], request.stdio[1], ptmx)
        pid = apps.start(launch.at_terminal(), namespaces, (terminal.app_end,) * 3, terminal=True)
        return _serve_terminal(terminal, pid, caller)
    pid = apps.start(launch, namespaces, request.stdio)
    forward_signals(pid, caller)
    return exit_code(os.waitpid(pid, 0)[1])


def exit_code(wait_status: int) -> int:
    """Of a command that ended so: its own, 128 + N for a signal."""
    code = os.waitstatus_to_exitcode(wait_status)
    return 128 - code if code < 0 else code


def forward_signals(pid: int, caller: int) -> int:
    """Pass signals on to the command, and end it with our caller, who alone waits for it; returns its pidfd."""
    from podium.linux import syscalls

    pidfd = syscalls.pidfd_open(pid)  # a signal may come when it was waited for already, and its pid is another's

    def forward(number: int, frame: object) -> None:
        try:
            syscalls.pidfd_send_signal(pidfd, number if os.getppid() == caller else signal.SIGKILL)
        except ProcessLookupError:
            pass

    for number in FORWARDED:
        signal.signal(number, forward)
    procs.die_with_parent(signal.SIGHUP, caller)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, FORWARDED)
    return pidfd


def _serve_terminal(terminal: Terminal, pid: int, caller: int) -> int:
    terminal.started()
    signal.signal(signal.SIGWINCH, lambda *_: terminal.resize())
    pidfd = forward_signals(pid, caller)
    terminal.raw()
    keys = True
    try:
        while True:
            watched = [terminal.master, pidfd] + ([terminal.caller_in] if keys else [])
            ready = select.select(watched, [], [])[0]
            if terminal.caller_in in ready:
                keys = terminal.to_app()
            if terminal.master in ready and not terminal.from_app():
                break
            if pidfd in ready:
                break
    finally:
        terminal.close()  # the caller's may be gone: the command is to hear of it
    return exit_code(os.waitpid(pid, 0)[1])


def release_cgroups(pod: Pod, ledger: Ledger) -> bool:
    """Release the cgroups in the ledger, as `stage1_gc` has to: end what is in them, then remove them.

    Raises:
        Failed: a process survived SIGKILL.
    """
    for resource in ledger.outstanding():
        if resource.kind == "cgroup":
            if not cgroup.kill(resource.id):
                raise Failed(f"processes in cgroup {resource.id} survive SIGKILL", subject=pod.uuid)
            cgroup.remove(resource.id)
            ledger.released(resource.number, "plugin")
    return True
