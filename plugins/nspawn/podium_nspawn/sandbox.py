"""The sandbox: systemd-nspawn with a placeholder as its only process, into whose namespaces the apps are started."""

from __future__ import annotations

import _socket
import os
import select
import stat
import time

from podium.errors import Failed, HostLacks, PodiumError
from podium.linux import caps, cgroup, mount, namespaces, procs, signals
from podium.linux.procs import Process
from podium.linux.resolve import ensure_mountpoint, open_dir, open_in_root
from podium.linux.signals import signal
from podium.net import files
from podium.sandbox import paths, rootfs, volumes
from podium.sandbox.idrange import IdRange
from podium.types import App, NetworkSetup, Pod
from podium_nspawn.command import ENVIRONMENT, PLACEHOLDER, app_root, arguments
from podium_nspawn.host import OWN_FOLDERS, busybox

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any, Self

START_TIMEOUT, END_TIMEOUT = 30.0, 10.0  # seconds
_FOLDERS = ("usr/bin", "etc", "run", "tmp", "proc", "sys", "dev", "var", "root")
_HOST_FILES = ("/etc/resolv.conf", "/etc/hosts")
_SYSTEMD_RUN = "/run/systemd"
_MACHINE_RUN = f"{_SYSTEMD_RUN}/nspawn"
# A node of the host's disk could be opened in /dev: docs/adr/0030-devices-of-containers.md.
_CAPABILITIES = tuple(name for name in caps.DEFAULT_NAMES if name != "CAP_MKNOD")


def kinds(pod: Pod) -> tuple[str, ...]:
    """Namespaces that its apps join."""
    return ("mnt", "pid", "ipc", "uts", "net", *(("user",) if pod.private_users else ()))


class NspawnSandbox:
    """See `podium.types.UnfinishedSandbox` and `podium.types.LastingSandbox`."""

    def __init__(
        self,
        pod: Pod,
        cgroup_path: str,
        network: NetworkSetup | None = None,
        ids: IdRange | None = None,
        *,
        register: bool = False,
    ) -> None:
        self._ids = ids
        self._register = register
        self._network = network
        self._pod = pod
        self._cgroup = f"{cgroup_path}/_sandbox"  # no app's name: those have no underscore
        self._root = os.path.join(pod.stage1_dir, "root")
        self._nspawn = 0
        self._fds: dict[str, int] = {}
        self._life = -1  # what the placeholder reads ends when we do
        self._executed = -1  # what ends once nspawn is executed
        self._notify: _socket.socket | None = None  # what nspawn says
        self.leader: Process | None = None

    @property
    def namespaces(self) -> Mapping[str, int]:
        """Those of the sandbox."""
        return self._fds

    @property
    def ids(self) -> int:
        """What 0 inside is on the host."""
        return self._ids.base if self._ids is not None else 0

    @property
    def default_capabilities(self) -> Sequence[str] | None:
        """The specification's default set (appc ace.md, os/linux/capabilities-retain-set), without CAP_MKNOD."""
        return _CAPABILITIES

    @property
    def ptmx(self) -> str:
        """Of the sandbox's own devpts."""
        assert self.leader is not None
        return f"/proc/{self.leader.pid}/root/dev/pts/ptmx"

    def root(self, app: App) -> str:
        """The app's rootfs, as seen inside."""
        return app_root(app.name)

    def handed_on(self, keep: Callable[[int], int]) -> Mapping[str, Any]:
        """See `podium.types.LastingSandbox`."""
        assert self.leader is not None
        return {
            "cgroup": self._cgroup,
            "ids": self._ids and self._ids.handed_on(keep),
            "nspawn": self._nspawn,
            "leader": self.leader.to_json(),
            "namespaces": {kind: keep(fd) for kind, fd in self._fds.items()},
            "life": keep(self._life),
        }

    @classmethod
    def taken_over(cls, pod: Pod, record: Mapping[str, Any]) -> Self:
        """See `podium.types.LastingSandbox`."""
        made = cls(pod, record["cgroup"].rpartition("/")[0], ids=record["ids"] and IdRange.taken_over(record["ids"]))
        made._nspawn, made._life, made._fds = record["nspawn"], record["life"], dict(record["namespaces"])
        made.leader = Process.from_json(record["leader"])
        return made

    def make(self) -> None:
        """Let nspawn begin, in a mount namespace of the supervisor's own that tells the host nothing."""
        mount.unshare_mounts()
        self._hide_machine_folder()
        self._fill_root()
        volumes.make_volumes(self._pod, self.ids)
        for app in self._pod.apps:
            self._place(app)
        self._start_nspawn(register=self._register)

    def finish(self) -> Process:
        """See `podium.types.UnfinishedSandbox`."""
        try:
            self.leader = self._wait_ready()
        except Failed as e:
            if not self._register:
                raise
            self.close()
            print(f"podium: {e.message}; once more, without systemd-machined", flush=True)
            self._start_nspawn(register=False)
            self.leader = self._wait_ready()
        self._fds = namespaces.open_namespaces(self.leader, kinds(self._pod))
        try:
            with namespaces.inside({"mnt": self._fds["mnt"]}):
                self._share_kernel_folders()
        except OSError as e:
            raise self._unready(e) from None
        values = paths.sysctls(self._pod)
        if values:  # by the host's /proc: the sandbox's own is read-only
            with namespaces.inside({kind: self._fds[kind] for kind in ("ipc", "net")}):
                paths.set_sysctls(values)
        return self.leader

    def ended(self) -> bool:
        """Whether nspawn has ended, which leaves its container without a keeper; `close` waits for it."""
        return os.waitid(os.P_PID, self._nspawn, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None

    def close(self) -> None:
        """End what is left of the sandbox."""
        namespaces.close_all(self._fds)
        self._fds = {}
        if self._nspawn:
            if self.leader is not None:
                procs.signal_process(self.leader, signal.SIGKILL)
            if self.leader is None or not self._pod.settings.get("register"):  # else it has to tell machined
                os.kill(self._nspawn, signal.SIGKILL)
            os.waitpid(self._nspawn, 0)
            if self.leader is not None:
                procs.wait_end(self.leader, END_TIMEOUT)
            self._nspawn = 0
        if self._notify is not None:
            self._notify.close()
        if self._life >= 0:
            os.close(self._life)
            self._life = -1

    def _hide_machine_folder(self) -> None:
        """What nspawn leaves in /run/systemd/nspawn goes with our mount namespace; /run/dbus must stay in sight."""
        place = next(path for path in (_MACHINE_RUN, _SYSTEMD_RUN, "/run") if os.path.isdir(path))
        mount.mount("tmpfs", place, "tmpfs", mount.MS_NOSUID | mount.MS_NODEV, "mode=0755")
        os.makedirs(_MACHINE_RUN, exist_ok=True)

    def _fill_root(self) -> None:
        for folder in _FOLDERS:
            os.makedirs(os.path.join(self._root, folder), mode=0o755, exist_ok=True)
        for name, content in (
            ("etc/os-release", "ID=podium\nNAME=podium\n"),
            ("etc/machine-id", self._pod.uuid.replace("-", "") + "\n"),
            (PLACEHOLDER[1:], ""),
        ):
            with open(os.path.join(self._root, name), "w", encoding="ascii") as f:
                f.write(content)
        mount.bind(busybox(), os.path.join(self._root, PLACEHOLDER[1:]), read_only=True)

    def _place(self, app: App) -> None:
        path = rootfs.assemble(self._pod, app, self.ids)
        root = open_dir(path)
        try:
            for folder in OWN_FOLDERS:
                os.close(ensure_mountpoint(root, folder, True))
            for source, inside in self._files():
                target = ensure_mountpoint(root, inside, False)
                mount.bind(source, target, read_only=True)
                os.close(target)
            volumes.mount_volumes(self._pod, app, root)
        finally:
            os.close(root)
        inside = self._root + app_root(app.name)
        os.makedirs(inside, mode=0o755, exist_ok=True)
        mount.bind(path, inside, recursive=True)

    def _files(self) -> list[tuple[str, str]]:
        """What every app sees of names: (source, target)."""
        if self._network is not None:
            return list(self._network.files)
        if files.asked(self._pod):
            return list(files.write(self._pod)[1])
        if self._pod.network.names == ("host",):
            of_host = [(path, path) for path in _HOST_FILES if os.path.exists(path)]
            return [*of_host, files.write_hostname(self._pod)] if self._pod.hostname else of_host
        return []

    def _start_nspawn(self, *, register: bool) -> None:
        """Start nspawn, which will say when the sandbox is there (sd_notify(3))."""
        network, netns = self._network, None
        born_in: dict[str, int] = {}
        if network is not None and self._ids is None:
            netns = f"/proc/{os.getpid()}/fd/{network.netns_fd}"
        elif network is not None:
            # It may not mount the sysfs of a namespace that its user ids don't own: so it is born there.
            born_in = {"net": network.netns_fd}
        argv = arguments(self._pod, self._root, netns, self._ids, register=register)
        name = f"podium/{self._pod.uuid}"
        cgroup.create(self._cgroup)
        with namespaces.inside(born_in):
            self._notify = _socket.socket(_socket.AF_UNIX, _socket.SOCK_DGRAM | _socket.SOCK_CLOEXEC)
            self._notify.bind("\0" + name)  # an abstract name is the network namespace's, too
            self._fork(argv, name)

    def _fork(self, argv: list[str], notify: str) -> None:
        end, self._life = os.pipe2(os.O_CLOEXEC)
        self._executed, until_executed = os.pipe2(os.O_CLOEXEC)
        parent = os.getpid()
        self._nspawn = cgroup.fork(self._cgroup)
        if self._nspawn == 0:
            self._become_nspawn(argv, "@" + notify, parent, end)
        os.close(end)
        os.close(until_executed)

    def _become_nspawn(self, argv: list[str], notify: str, parent: int, stdin: int) -> None:
        """The child's side of the fork: it never returns. What nspawn says goes to the pod's plugin.log."""
        try:
            cgroup.enter(self._cgroup)
            procs.die_with_parent(signal.SIGKILL, parent)
            signals.reset()
            os.dup2(stdin, 0)
            os.execvpe(argv[0], argv, {**ENVIRONMENT, "NOTIFY_SOCKET": notify})
        except BaseException as e:
            os.write(2, f"{argv[0]}: {e}\n".encode())
        finally:
            os._exit(125)

    def _wait_ready(self) -> Process:
        """The sandbox's first process."""
        os.read(self._executed, 1)  # before, the child moves itself, in no time, unless it has to wait for us
        os.close(self._executed)
        cgroup.expect_moves()
        notify = self._notify
        assert notify is not None
        pidfd = os.pidfd_open(self._nspawn)
        deadline = time.monotonic() + START_TIMEOUT
        leader = 0
        try:
            while (left := deadline - time.monotonic()) > 0:
                ready = select.select([notify.fileno(), pidfd], [], [], left)[0]
                if notify.fileno() in ready:
                    fields = dict(line.partition("=")[::2] for line in notify.recv(4096).decode().splitlines())
                    leader = int(fields.get("X_NSPAWN_LEADER_PID", leader))
                    if fields.get("READY") == "1" and leader:
                        break
                elif pidfd in ready:
                    raise Failed(
                        f"systemd-nspawn ended before the sandbox was ready{self._last_words()}",
                        hint="see 'podium stage1 check nspawn'",
                        subject=self._pod.uuid,
                    )
            else:
                raise Failed(f"systemd-nspawn was not ready within {START_TIMEOUT:g} s", subject=self._pod.uuid)
        finally:
            os.close(pidfd)
            notify.close()
        process = procs.identify(leader)
        if process is None:
            raise Failed("the sandbox's first process ended at once; see the pod's plugin.log", subject=self._pod.uuid)
        return process

    def _last_words(self) -> str:
        """What nspawn has said last: with --rm nobody finds the pod's plugin.log."""
        with open(os.path.join(self._pod.dir, "plugin.log"), encoding="utf-8", errors="replace") as f:
            said = [line.strip() for line in f if line.strip()]
        return f": {said[-1][:300]}" if said else ""

    def _unready(self, error: OSError) -> PodiumError:
        from podium.sandbox.check import NO_CHROOT, in_chroot

        if in_chroot():  # from where the sandbox's root can't be reached by its namespaces
            return HostLacks("podium runs in a chroot, where nspawn can't be used", hint=NO_CHROOT)
        return Failed(f"the sandbox could not be made ready for its apps: {error}", subject=self._pod.uuid)

    def _share_kernel_folders(self) -> None:
        """Inside: the apps see the sandbox's own /proc, /sys and /dev, as nspawn made them, and volumes in /dev."""
        mount.set_propagation(
            "/", mount.MS_PRIVATE | mount.MS_REC
        )  # what is mounted there for one is not for the others
        for app in self._pod.apps:
            root = open_dir(app_root(app.name))
            devices = {m.target: _volume_at(root, m.target) for m in app.mounts if m.target.startswith("/dev/")}
            for folder in OWN_FOLDERS:
                target = ensure_mountpoint(root, folder, True)
                mount.bind(folder, target, recursive=True)
                os.close(target)
            for place, volume in devices.items():
                target = ensure_mountpoint(root, place, stat.S_ISDIR(os.fstat(volume).st_mode))
                mount.attach(volume, target)
                os.close(target)
                os.close(volume)
            paths.confine_paths(app, root)
            os.close(root)


def _volume_at(root: int, target: str) -> int:
    """A volume that was mounted where another mount is to hide it."""
    place = open_in_root(root, target, os.O_PATH | os.O_CLOEXEC)
    try:
        return mount.clone(place, recursive=True)
    finally:
        os.close(place)
