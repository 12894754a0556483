"""The one way into a sandbox: join its namespaces, chroot, drop, exec. Apps, their event handlers and `enter` take it.

The caller is a direct parent of what it starts, so waitpid(2) gives the real status and no process stays in between.
"""

from __future__ import annotations

import errno
import fcntl
import os
import resource
import termios

from podium.errors import CannotExecute, CommandNotFound, Failed, HostLacks, PodiumError
from podium.linux import caps, cgroup, namespaces, procs, seccomp, syscalls
from podium.linux.signals import signal
from podium.quickjson import dumps, loads
from podium.sandbox.launch import DEFAULT_PATH, Launch

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import NoReturn


def start(
    launch: Launch, namespace_fds: Mapping[str, int], stdio: tuple[int, int, int], *, terminal: bool = False
) -> int:
    """Start a process into a sandbox; returns once it was executed.

    Args:
        launch: what to start, and how it is confined.
        namespace_fds: kind → descriptor of what to join; empty for the caller's own.
        stdio: descriptors that become its standard input, output and error.
        terminal: make its standard input its controlling terminal.

    Returns:
        Its pid; it is a child of the caller.

    Raises:
        CommandNotFound, CannotExecute: the command.
        PodiumError: any earlier step, by name.
    """
    read_end, write_end = os.pipe2(os.O_CLOEXEC)
    own_pid_ns = None
    try:
        if "pid" in namespace_fds:
            # It counts for children only, and is switched back: so the app is our own child, in the pod's namespace.
            own_pid_ns = os.open("/proc/self/ns/pid", os.O_RDONLY | os.O_CLOEXEC)
            namespaces.setns(namespace_fds["pid"], namespaces.CLONE_NEWPID)
        parent = os.getpid()
        pid = cgroup.fork(launch.cgroup)
        if pid == 0:
            _become(launch, namespace_fds, stdio, terminal, write_end, parent)  # never returns
    finally:
        os.close(write_end)
        if own_pid_ns is not None:
            namespaces.setns(own_pid_ns, namespaces.CLONE_NEWPID)
            os.close(own_pid_ns)
    with open(read_end, "rb") as report:
        failure = report.read()
    if failure:
        os.waitpid(pid, 0)
        raise _failure(loads(failure))
    return pid


def _failure(report: dict[str, object]) -> PodiumError:
    step, number, text, command = report["step"], report["errno"], report["text"], str(report["command"])
    if step == "execute":
        if number in (errno.ENOENT, errno.ENOTDIR):
            return CommandNotFound(
                f"command {command!r} was not found in the image",
                hint="'podium image cat-manifest' shows the image's own command",
                subject=command,
            )
        return CannotExecute(f"command {command!r} can't be executed: {text}", subject=command)
    if step == "working directory":
        return CannotExecute(f"can't start {command!r}: {step}: {text}", subject=command)
    if number in (errno.ENOSYS, errno.EPERM):
        return HostLacks(f"can't start {command!r}: {step}: {text}", hint="see 'podium stage1 check'", subject=command)
    return Failed(f"can't start {command!r}: {step}: {text}", subject=command)


def _become(
    launch: Launch,
    namespace_fds: Mapping[str, int],
    stdio: tuple[int, int, int],
    terminal: bool,
    report: int,
    parent: int,
) -> NoReturn:
    """The child's side of the fork. Everything that needs the host's view comes before the namespaces and the root."""
    step = "fork"
    try:
        step = "cgroup"
        cgroup.enter(launch.cgroup)  # the v1 hierarchies; the v2 one has had it since its birth
        if launch.oom_score_adj is not None:
            step = "oom_score_adj"
            with open("/proc/self/oom_score_adj", "w", encoding="ascii") as f:
                f.write(str(launch.oom_score_adj))
        have = caps.current()
        retain = have["bounding"] if launch.capabilities is None else frozenset(launch.capabilities)
        if "user" in namespace_fds:
            # Who joins a user namespace has every capability there, also those that the host's bounding set lacks.
            have["bounding"] = frozenset(range(caps.last() + 1))
        step = "rlimits"
        for name, (soft, hard) in launch.rlimits.items():
            try:
                resource.setrlimit(getattr(resource, f"RLIMIT_{name}"), (soft, hard))
            except ValueError:  # without CAP_SYS_RESOURCE
                have_hard = resource.getrlimit(getattr(resource, f"RLIMIT_{name}"))[1]
                raise OSError(
                    errno.EPERM, f"{name}={soft}:{hard} is above podium's own hard limit of {have_hard}"
                ) from None
        step = "namespaces"
        namespaces.join({kind: fd for kind, fd in namespace_fds.items() if kind != "pid"})
        step = "standard streams"
        os.setsid()
        _place(stdio)
        if terminal:
            fcntl.ioctl(0, termios.TIOCSCTTY, 0)
        step = "root"
        os.chroot(launch.root)
        os.chdir("/")
        step = "user and capabilities"
        os.setgroups(launch.groups)
        caps.become(launch.uid, launch.gid, retain, have)
        step = "working directory"
        os.chdir(launch.cwd)
        step = "signals"
        procs.die_with_parent(signal.SIGKILL, parent if "pid" not in namespace_fds else 0)
        os.umask(0o022)
        _default_signals()
        step = "descriptors"
        syscalls.close_range(3, syscalls.CLOSE_RANGE_CLOEXEC)  # what podium's own caller left open is not the app's
        step = "execute"
        path = _locate(launch)
        if launch.no_new_privileges or launch.seccomp:
            # With a filter too: without the privilege to install one, that is the kernel's condition (seccomp(2)).
            caps.set_no_new_privileges()
        if launch.seccomp:
            seccomp.install(launch.seccomp)  # last: from here on only what the app may call is sure to work
        os.execve(path, launch.argv, launch.environment)
    except BaseException as e:
        _report(report, step, launch.argv[0], e)
    finally:
        os._exit(125)


def _report(fd: int, step: str, command: str, error: BaseException) -> None:
    number, text = None, f"{type(error).__name__}: {error}"
    if isinstance(error, OSError):
        number, text = error.errno, error.strerror or str(error)
    elif isinstance(error, PodiumError):
        text = error.message
    os.write(fd, dumps({"step": step, "errno": number, "text": text, "command": command}).encode())


def _default_signals() -> None:
    for number in range(1, signal.NSIG):
        if number not in (signal.SIGKILL, signal.SIGSTOP) and signal.getsignal(number) not in (signal.SIG_DFL, None):
            signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def _place(stdio: tuple[int, int, int]) -> None:
    """Make `stdio` 0, 1 and 2, whatever numbers they have."""
    copies = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 10) for fd in stdio]
    for target, copy in enumerate(copies):
        os.dup2(copy, target)


def _locate(launch: Launch) -> str:
    """The file to execute: execvp(3)'s search in the app's own PATH.

    Raises:
        FileNotFoundError, PermissionError: there is none, or none that can be executed.
    """
    command = launch.argv[0]
    if "/" in command:
        os.stat(command)
        return command
    found = None
    for folder in launch.environment.get("PATH", DEFAULT_PATH).split(":"):
        path = os.path.join(folder or ".", command)
        if os.path.isfile(path):
            if os.access(path, os.X_OK):
                return path
            found = path
    if found is not None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), found)
    raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), command)
