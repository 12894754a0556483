"""The sandbox: a virtual machine, into which the apps are started over its ports."""

from __future__ import annotations

import _socket
import os
import select
import termios
import time
import tty

from podium.errors import Failed
from podium.linux import caps, cgroup, procs, signals
from podium.linux.procs import Process
from podium.linux.signals import signal
from podium.sandbox import plugin_log
from podium.sandbox.console import ConsolePump
from podium.sandbox.launch import Launch
from podium.sandbox.plugin_log import PluginPump
from podium.types import App, Pod, Pump, Supervisor
from podium_kvm import program, relay, sharing
from podium_kvm.files import connect, folder, listen
from podium_kvm.machine import STREAMS, Machine, arguments
from podium_kvm.status import StatusPort

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any, NoReturn, Self

    from podium.net.tap import Tap

BOOT_TIMEOUT = 120.0  # seconds, where nothing is configured
_CGROUP = "_sandbox"  # no app's name: those have no underscore
_FIRST_UID = 2_000_000_000
_LOOK = 0.2  # seconds between looks at who has ended, while the guest boots
_SAYS = "podium: "  # how guest/init begins the line that tells why it gives up
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def user_of(pod: Pod) -> int:
    """The user and group that the pod's QEMU runs as: nobody else's, so that no pod's can signal or trace another's."""
    return _FIRST_UID + int(pod.uuid[:6], 16)


class KvmSandbox:
    """See `podium.types.LastingRemoteSandbox`."""

    def __init__(
        self,
        pod: Pod,
        kernel: str = "",
        images: tuple[tuple[str, str], ...] = (),
        taps: Sequence[Tap] = (),
    ) -> None:
        self._pod = pod
        self._kernel = kernel
        self._images = images
        self._taps = taps
        self._ends: dict[str, dict[str, _socket.socket]] = {}
        self._notes: dict[str, int] = {}  # files in memory in which relays leave word, by app
        self._begun: set[str] = set()  # apps of which a command was started
        self._command = -1
        self._pid = 0
        self._virtiofsd = 0
        self._said: PluginPump | None = None
        self._console: ConsolePump | None = None
        self._status: StatusPort | None = None
        self._supervisor: Supervisor
        self.leader: Process | None = None

    @property
    def namespaces(self) -> Mapping[str, int]:
        """None of this host."""
        return {}

    @property
    def default_capabilities(self) -> Sequence[str] | None:
        """The specification's default set (appc ace.md, os/linux/capabilities-retain-set)."""
        return caps.DEFAULT_NAMES

    @property
    def ptmx(self) -> str:
        """The host's: its other end is a relay."""
        return "/dev/ptmx"

    def root(self, app: App) -> str:
        """The app's rootfs in the guest."""
        return f"/apps/{app.name}"

    @property
    def pumps(self) -> Sequence[Pump]:
        """What the supervisor is to copy while it waits."""
        pumps = (self._console, self._status, self._said)
        return [pump for pump in pumps if pump is not None and pump.fileno() >= 0]

    def handed_on(self, keep: Callable[[int], int]) -> Mapping[str, Any]:
        """See `podium.types.LastingSandbox`; the console, and what QEMU says, are core's to hand on."""
        assert self.leader is not None and self._console is not None and self._status is not None
        if self._console.fileno() < 0 or self._status.fileno() < 0 or self._said is None:
            raise Failed("the virtual machine is about to end", subject=self._pod.uuid)
        return {
            "ends": {app: {name: keep(end.fileno()) for name, end in ends.items()} for app, ends in self._ends.items()},
            "notes": {app: keep(note) for app, note in self._notes.items()},
            "status": self._status.handed_on(keep),
            "command": keep(self._command),
            "qemu": self._pid,
            "leader": self.leader.to_json(),
            "virtiofsd": self._virtiofsd,
        }

    @classmethod
    def taken_over(cls, pod: Pod, record: Mapping[str, Any]) -> Self:
        """See `podium.types.LastingSandbox`."""
        made = cls(pod)
        for app, ends in record["ends"].items():
            made._ends[app] = {name: _socket.socket(fileno=fd) for name, fd in ends.items()}
        made._begun = set(made._ends)
        made._notes, made._command = dict(record["notes"]), record["command"]
        made._pid, made._virtiofsd = record["qemu"], record["virtiofsd"]
        made._status, made.leader = StatusPort.taken_over(record["status"]), Process.from_json(record["leader"])
        return made

    def served_by(self, supervisor: Supervisor, pumps: Sequence[Pump]) -> None:
        """See `podium.types.LastingRemoteSandbox`."""
        assert self._status is not None
        self._supervisor = supervisor
        self._status.served_by(supervisor)
        self._console = next((pump for pump in pumps if isinstance(pump, ConsolePump)), None)
        self._said = next((pump for pump in pumps if isinstance(pump, PluginPump)), None)

    def make(self, supervisor: Supervisor, accelerator: str, memory: int, cpus: int) -> None:
        """Start QEMU and wait until its guest says that it has booted.

        Args:
            supervisor: the pod's.
            accelerator: `kvm` or `tcg`.
            memory: MiB.
            cpus: number of virtual processors.

        Raises:
            Failed: QEMU ended, or the guest said nothing in time; with the console's last lines.
        """
        at = folder(self._pod)
        inside: list[tuple[str, _socket.socket]] = []
        status, status_end = _socket.socketpair()
        self._supervisor = supervisor
        self._said = PluginPump()
        self._status = StatusPort(status)
        self._status.served_by(supervisor)
        inside.append(("status", status_end))
        for app in self._pod.apps:
            self._ends[app.name] = {}
            self._notes[app.name] = os.memfd_create(f"podium-{app.name}")
            for stream in STREAMS:
                self._ends[app.name][stream], end = _socket.socketpair()
                inside.append((f"{app.name}.{stream}", end))
        console, console_end = _socket.socketpair()
        self._console = ConsolePump(self._pod.dir, console)
        self._command = os.open(os.path.join(at, "ctl"), os.O_RDWR | os.O_CLOEXEC)
        files = [os.open(path, os.O_RDONLY | os.O_CLOEXEC) for path in (self._kernel, f"{at}/initrd")]
        files += [os.open(path, os.O_RDONLY | os.O_CLOEXEC) for _, path in self._images]
        disk = os.path.join(at, "rw")
        os.chown(disk, user_of(self._pod), user_of(self._pod))
        files.append(os.open(disk, os.O_RDWR | os.O_CLOEXEC))
        shared = self._share()
        qmp = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM | _socket.SOCK_CLOEXEC)
        try:
            listen(qmp, at, "qmp")
            kept = [*(end.fileno() for _, end in inside), console_end.fileno(), qmp.fileno(), self._command, *files]
            kept += [tap.fd for tap in self._taps]
            kept += [] if shared is None else [shared.fileno()]
            machine = Machine(
                name=f"podium-{self._pod.uuid}",
                accelerator=accelerator,
                memory=memory,
                cpus=cpus,
                kernel=f"/proc/self/fd/{files[0]}",
                initrd=f"/proc/self/fd/{files[1]}",
                images=tuple(
                    (serial, f"/proc/self/fd/{fd}") for (serial, _), fd in zip(self._images, files[2:-1], strict=True)
                ),
                disk=f"/proc/self/fd/{files[-1]}",
                console=console_end.fileno(),
                qmp=qmp.fileno(),
                command=self._command,
                ports=tuple((name, end.fileno()) for name, end in inside),
                networks=tuple((tap.fd, tap.mac) for tap in self._taps),
                shared=None if shared is None else shared.fileno(),
            )
            self._start(arguments(machine), kept)
        finally:
            qmp.close()
        self._said.started()
        for _, end in inside:
            end.close()
        console_end.close()
        if shared is not None:
            shared.close()
        for fd in files:
            os.close(fd)
        self._wait_boot(self._pod.settings.get("boot-timeout", BOOT_TIMEOUT))

    def _share(self) -> _socket.socket | None:
        """Start virtiofsd if the pod has volumes; returns QEMU's end."""
        if not any(app.mounts for app in self._pod.apps):
            return None
        assert self._said is not None
        at = f"{self._pod.cgroup}/{_CGROUP}"
        cgroup.create(at)
        end = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM | _socket.SOCK_CLOEXEC)
        listening = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM | _socket.SOCK_CLOEXEC)
        try:
            listen(listening, folder(self._pod), "fs")
            connect(end, folder(self._pod), "fs")
            os.unlink(os.path.join(folder(self._pod), "fs"))
            self._virtiofsd = sharing.start(self._pod, listening, at, self._said.app_end)
        finally:
            listening.close()
        return end

    def _start(self, argv: list[str], kept: list[int]) -> None:
        """Start QEMU in the pod's cgroup, as a user of its own."""
        at = f"{self._pod.cgroup}/{_CGROUP}"
        cgroup.create(at)
        parent = os.getpid()
        self._pid = cgroup.fork(at)
        if self._pid == 0:
            self._become_qemu(at, argv, kept, parent)
        self.leader = procs.identify(self._pid)
        if self.leader is None:
            raise Failed("QEMU ended at once; see the pod's plugin.log", subject=self._pod.uuid)
        self._supervisor.leader(self.leader)

    def _become_qemu(self, at: str, argv: list[str], kept: list[int], parent: int) -> NoReturn:
        """The child's side of the fork. What QEMU says goes to the pod's plugin.log."""
        assert self._said is not None
        try:
            for number in (1, 2):
                os.dup2(self._said.app_end, number)
            cgroup.enter(at)
            for fd in kept:
                os.set_inheritable(fd, True)
            os.setsid()
            user = user_of(self._pod)
            os.setgroups([os.stat("/dev/kvm").st_gid] if os.path.exists("/dev/kvm") else [])
            os.setresgid(user, user, user)
            os.setresuid(user, user, user)
            procs.die_with_parent(signal.SIGKILL, parent)
            signals.reset()
            os.execvpe(argv[0], argv, {"PATH": _PATH})
        except BaseException as e:
            os.write(2, f"{argv[0]}: {e}\n".encode())
        finally:
            os._exit(125)

    def _wait_boot(self, timeout: float) -> None:
        deadline = time.monotonic() + timeout
        assert self._console is not None and self._status is not None and self._said is not None
        while (left := deadline - time.monotonic()) > 0:
            self._supervisor.heed_stop()
            ready = select.select([pump.fileno() for pump in self.pumps], [], [], min(left, _LOOK))[0]
            if self._console.fileno() in ready:
                self._console.pump()
            if self._said.fileno() in ready:
                self._said.pump()
            gone = self._gone()
            if gone is None and self._status.fileno() in ready and not self._status.pump():
                gone = "QEMU"
            if gone is not None:
                raise self._failed(f"{gone} ended before the guest had booted")
            if self._status.booted:
                return
        raise self._failed(
            f"the guest did not boot within {timeout:g} s",
            "a slow host may need more: boot-timeout, in the table [kvm] of the configuration",
        )

    def _failed(self, what: str, hint: str = "what QEMU said is in the pod's plugin.log") -> Failed:
        assert self._console is not None
        why, tail = self._why(), self._console.tail()
        said = f"; the console's last lines:\n{tail}" if tail else f"; its console is empty{self._qemu_said()}"
        return Failed(what + why + said, hint=hint, subject=self._pod.uuid)

    def _qemu_said(self) -> str:
        """The end of the pod's plugin.log, to be put behind a statement."""
        if self._said is not None:
            self._said.drain()
        try:
            with open(os.path.join(self._pod.dir, plugin_log.NAME), "rb") as f:
                f.seek(max(0, os.fstat(f.fileno()).st_size - 1024))
                lines = f.read().decode("utf-8", "replace").splitlines()
        except FileNotFoundError:
            return ""
        return "".join(f"; {line}" for line in lines[-2:] if line.startswith("qemu"))

    def _why(self) -> str:
        """What the console tells of the guest's end, to be put behind a statement of that."""
        if self._console is None:
            return ""
        while self._console.fileno() >= 0 and select.select([self._console.fileno()], [], [], 0.2)[0]:
            self._console.pump()
        reason = self._console.reason(_SAYS)
        return f": {reason}" if reason else ""

    def start(self, app: App, launch: Launch, stdio: tuple[int, int, int], *, terminal: bool = False) -> int:
        """Start a command into the guest; returns the pid of the process that stands for it."""
        made = program.build(launch._replace(cgroup=app.name), app.name, terminal=terminal, whole=True)
        note = self._notes[app.name]
        killed = app.name in self._begun and not os.pread(note, 1, 0)
        self._begun.add(app.name)
        os.ftruncate(note, 0)
        if terminal:
            tty.setraw(stdio[0], termios.TCSANOW)
        command = relay.Command(
            app=app.name,
            ends=self._ends[app.name],
            program=made,
            stdio=stdio,
            note=note,
            terminal=terminal,
            after=killed,
        )
        return relay.start(command, launch.cgroup)

    def failure(self, app: App) -> str | None:
        """What the process that stood for the app left word of."""
        said = os.pread(self._notes[app.name], 64, 0)
        if said.startswith(b"exited "):
            killed = said == b"exited %d oom" % signal.SIGKILL
            return "killed: it used more memory than its limit allows" if killed else None
        if said == relay.GONE:  # its ports are closed before QEMU has ended
            return f"the virtual machine ended before the command did{self._why()}"
        return f"the virtual machine has ended{self._why()}" if self.ended() else None

    def end(self, app: App) -> None:
        """End what is left of an app in the guest."""
        try:
            os.write(self._command, f"kill {app.name}\n".encode())
        except OSError:
            pass  # the guest has gone

    def ended(self) -> bool:
        """Whether QEMU has ended, and all apps with it, or virtiofsd, without which they hang; see `close`."""
        return self._gone() is not None

    def _gone(self) -> str | None:
        for pid, name in ((self._pid, "QEMU"), (self._virtiofsd, "virtiofsd")):
            if pid and os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None:
                return name
        return None

    def close(self) -> None:
        """End the machine."""
        if self._pid:
            if self.leader is not None:
                procs.signal_process(self.leader, signal.SIGKILL)
            os.waitpid(self._pid, 0)
            self._pid = 0
        if self._virtiofsd:
            os.kill(self._virtiofsd, signal.SIGKILL)  # ours and not yet waited for
            os.waitpid(self._virtiofsd, 0)
            self._virtiofsd = 0
        for ends in self._ends.values():
            for end in ends.values():
                end.close()
        for fd in self._notes.values():
            os.close(fd)
        self._ends, self._notes = {}, {}
        if self._said is not None:
            self._said.drain()
        for pump in (self._console, self._status, self._said):
            if pump is not None:
                pump.close()
        if self._command >= 0:
            os.close(self._command)
            self._command = -1
