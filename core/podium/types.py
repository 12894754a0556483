"""The types that stage1 plugins are given and return: a public, versioned surface (interface version 1).

Fields are only ever added, each with a default; a plugin must ignore what it does not know.
"""

from __future__ import annotations

from types import MappingProxyType

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from contextlib import AbstractContextManager
    from typing import Any, Protocol, Self, dataclass_transform

    from podium.linux.procs import Process
    from podium.sandbox.launch import Launch
else:
    from podium.light_typing import Protocol, dataclass_transform

INTERFACE = 1
_NONE: Mapping[str, Any] = MappingProxyType({})


@dataclass_transform(kw_only_default=True, frozen_default=True)
class Record:
    """Base of the types below: values by name, given by keyword and never changed; equal if all are.

    Not dataclasses: to make those classes takes 12 ms, a fifth of a short pod's life, since each of them compiles
    its methods. A default is the class's attribute, so it must be immutable.
    """

    _fields: tuple[str, ...] = ()
    _required: frozenset[str] = frozenset()

    def __init_subclass__(cls) -> None:
        """Look the fields up."""
        own = tuple(cls.__annotations__)
        cls._fields = (*cls._fields, *own)
        cls._required |= {name for name in own if name not in vars(cls)}

    def __init__(self, **values: Any) -> None:
        """Raises TypeError for a value that is missing or not known."""
        missing, unknown = self._required - values.keys(), values.keys() - set(self._fields)
        if missing or unknown:
            what = [*(f"misses {name}" for name in sorted(missing)), *(f"has no {name}" for name in sorted(unknown))]
            raise TypeError(f"{type(self).__name__} {', '.join(what)}")
        self.__dict__.update(values)

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(f"{type(self).__name__}.{name} can't be changed; replace() makes a changed copy")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"{type(self).__name__}.{name} can't be removed")

    def replace(self, **changes: Any) -> Self:
        """A copy with other values. Raises TypeError for one that is not known."""
        return type(self)(**{**self.__dict__, **changes})

    def values(self) -> dict[str, Any]:
        """All values by name, defaults included."""
        return {name: getattr(self, name) for name in self._fields}

    def __eq__(self, other: object) -> bool:
        return self.values() == other.values() if isinstance(other, type(self)) else NotImplemented

    def __hash__(self) -> int:
        return hash(tuple(self.values().values()))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{k}={v!r}' for k, v in self.values().items())})"


class Volume(Record):
    """A volume of the pod (appc pods.md, "volumes", plus the kind `tmpfs`).

    Attributes:
        name: AC name by which mounts refer to it.
        kind: `host`, `empty` or `tmpfs`.
        source: absolute path on the host, for `host`.
        read_only: no app may write to it.
        recursive: mounts below `source` are part of it, for `host`.
        mode: permission bits of an `empty` or `tmpfs` volume's root.
        uid: its owner.
        gid: its group.
        size: bytes that a `tmpfs` may hold; None for the kernel's default.
    """

    name: str
    kind: str
    source: str | None = None
    read_only: bool = False
    recursive: bool = True
    mode: int = 0o755
    uid: int = 0
    gid: int = 0
    size: int | None = None


class Mount(Record):
    """Where an app sees a volume: `target` is an absolute path in its rootfs."""

    volume: str
    target: str
    read_only: bool = False


class Seccomp(Record):
    """A system call filter: `mode` is `retain` or `remove`, `names` are calls and @sets, `errno` a name (EPERM)."""

    mode: str
    names: tuple[str, ...]
    errno: str = "EPERM"


class Isolators(Record):
    """What confines an app; None means: not asked for.

    Attributes:
        memory_limit: bytes (resource/memory limit).
        memory_request: bytes (resource/memory request).
        cpu_limit: millicores (resource/cpu limit).
        cpu_request: millicores (resource/cpu request).
        cpu_shares: os/linux/cpu-shares.
        pids: most processes and threads.
        block_bandwidth: bytes per second.
        block_iops: operations per second.
        caps_retain: capability names; everything else is dropped.
        caps_remove: capability names dropped from the default set.
        no_new_privileges: os/linux/no-new-privileges.
        seccomp: system call filter.
        oom_score_adj: os/linux/oom-score-adj.
        rlimits: name (`NOFILE`) → (soft, hard); -1 is unlimited.
        sysctls: os/unix/sysctl.
        masked_paths: paths hidden from the app.
        readonly_paths: paths that the app can't write.
        unknown: isolators of the manifest that podium does not know, by name.
    """

    memory_limit: int | None = None
    memory_request: int | None = None
    cpu_limit: int | None = None
    cpu_request: int | None = None
    cpu_shares: int | None = None
    pids: int | None = None
    block_bandwidth: int | None = None
    block_iops: int | None = None
    caps_retain: tuple[str, ...] | None = None
    caps_remove: tuple[str, ...] | None = None
    no_new_privileges: bool = False
    seccomp: Seccomp | None = None
    oom_score_adj: int | None = None
    rlimits: Mapping[str, tuple[int, int]] = _NONE
    sysctls: Mapping[str, str] = _NONE
    masked_paths: tuple[str, ...] = ()
    readonly_paths: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()

    def asked(self) -> list[str]:
        """Names of the capabilities (see `Stage1Info`) that these isolators ask of a stage1."""
        names = {
            "isolator:memory": self.memory_limit is not None or self.memory_request is not None,
            "isolator:cpu": self.cpu_limit is not None or self.cpu_request is not None,
            "isolator:cpu-shares": self.cpu_shares is not None,
            "isolator:pids": self.pids is not None,
            "isolator:block-bandwidth": self.block_bandwidth is not None,
            "isolator:block-iops": self.block_iops is not None,
            "isolator:capabilities": self.caps_retain is not None or self.caps_remove is not None,
            "isolator:no-new-privileges": self.no_new_privileges,
            "isolator:seccomp": self.seccomp is not None,
            "isolator:oom-score-adj": self.oom_score_adj is not None,
            "isolator:rlimits": bool(self.rlimits),
            "isolator:sysctl": bool(self.sysctls),
            "isolator:masked-paths": bool(self.masked_paths),
            "isolator:readonly-paths": bool(self.readonly_paths),
        }
        return [name for name, asked in names.items() if asked] + [f"isolator:{name}" for name in self.unknown]


class App(Record):
    """One app of a pod, everything resolved but what can only be looked up inside its rootfs.

    Attributes:
        name: AC name, unique in the pod.
        image: name of its image.
        image_id: `sha256:<hex>`.
        rootfs: absolute path of its rendered tree, which is shared and must not be written.
        exec: command and arguments; a command without a slash is looked up in PATH inside the rootfs.
        user: name or number, looked up inside the rootfs.
        group: likewise.
        supplementary_gids: numbers, or names as `groups` in the manifest's annotation.
        working_dir: absolute path in the rootfs.
        environment: the whole environment.
        mounts: volumes in its rootfs.
        isolators: what confines it.
        readonly_rootfs: its rootfs can't be written.
        pre_start: command run before it, in its place; a failure fails the app.
        post_stop: command run after it.
        stdin, stdout, stderr: `null`, `log` or `inherit`; `auto`: the caller's in the foreground (standard input
            only where the pod has one app), else null and log.
        restart: `no`, `on-failure` or `always`.
        notify: it says itself when it is ready (sd_notify(3)).
        stop_signal: number of the signal that asks it to end.
        ports: names of its ports.
    """

    name: str
    image: str
    image_id: str
    rootfs: str
    exec: tuple[str, ...]
    user: str = "0"
    group: str = "0"
    supplementary_gids: tuple[str, ...] = ()
    working_dir: str = "/"
    environment: Mapping[str, str] = _NONE
    mounts: tuple[Mount, ...] = ()
    isolators: Isolators = Isolators()
    readonly_rootfs: bool = False
    pre_start: tuple[str, ...] = ()
    post_stop: tuple[str, ...] = ()
    stdin: str = "auto"
    stdout: str = "auto"
    stderr: str = "auto"
    restart: str = "no"
    notify: bool = False
    stop_signal: int = 15
    ports: tuple[str, ...] = ()


class Network(Record):
    """What the pod asks of the network.

    Attributes:
        names: `host`, `none`, or names of networks.
        ports: (port name, host IP, host port).
        dns, dns_search, dns_options, dns_domain: for resolv.conf; empty means: as the stage1 has it by default.
        hosts: (IP, name) lines for /etc/hosts.
    """

    names: tuple[str, ...] = ("default",)
    ports: tuple[tuple[str, str, int], ...] = ()
    dns: tuple[str, ...] = ()
    dns_search: tuple[str, ...] = ()
    hosts: tuple[tuple[str, str], ...] = ()
    dns_options: tuple[str, ...] = ()
    dns_domain: str = ""


class Interface(Record):
    """An interface that the pod has in its network namespace.

    Attributes:
        network: the network's name.
        name: the interface's, such as eth0.
        mac: of the interface; empty: not told.
        addresses: with their prefix: 10.1.2.3/16, fd00::3/64.
        gateways: of the addresses.
        routes: (destination, gateway or "").
    """

    network: str
    name: str
    mac: str = ""
    addresses: tuple[str, ...] = ()
    gateways: tuple[str, ...] = ()
    routes: tuple[tuple[str, str], ...] = ()


class NetworkSetup(Record):
    """The pod's network namespace as core made it; see `podium.net`. It is core that takes it down again.

    Attributes:
        netns: path that pins it, in the host's mount namespace.
        netns_fd: a descriptor of it, close-on-exec.
        interfaces: in the order of the pod's networks.
        dns: name servers in effect.
        files: (path of a file, where an app is to see it, such as /etc/hosts).
        reserved: what holds the pod's host ports; kept for as long as the pod runs.
    """

    netns: str
    netns_fd: int
    interfaces: tuple[Interface, ...] = ()
    dns: tuple[str, ...] = ()
    files: tuple[tuple[str, str], ...] = ()
    reserved: tuple[Any, ...] = ()


class Pod(Record):
    """A pod as its stage1 sees it.

    Attributes:
        uuid: lower case, with dashes.
        name: name given by the user, or None.
        dir: absolute path of the pod's folder; the stage1 keeps what it needs under `dir`/stage1.
        data_root: absolute path of the data directory.
        apps: in the order in which they start.
        volumes: by name.
        network: what it asks of the network.
        hostname: None for the stage1's default.
        private_users: a user namespace is asked for.
        isolators: of the pod as a whole.
        labels: of the user.
        annotations: of the user.
        cgroup: path of the pod's cgroup below every hierarchy.
        settings: what today's configuration has for the stage1 (`[plugins.NAME]`), for `stage1_prepare` and
            `stage1_run`; `stage1_check` is given the same.
    """

    uuid: str
    name: str | None
    dir: str
    data_root: str
    apps: tuple[App, ...]
    volumes: Mapping[str, Volume] = _NONE
    network: Network = Network()
    hostname: str | None = None
    private_users: bool = False
    isolators: Isolators = Isolators()
    labels: Mapping[str, str] = _NONE
    annotations: Mapping[str, str] = _NONE
    cgroup: str = ""
    settings: Mapping[str, Any] = _NONE

    @property
    def stage1_dir(self) -> str:
        """Where the stage1 keeps what is its own."""
        return f"{self.dir}/stage1"

    def app(self, name: str) -> App:
        """The app of that name. Raises KeyError."""
        for app in self.apps:
            if app.name == name:
                return app
        raise KeyError(name)


class Stage1Info(Record):
    """What a plugin is and what it implements (not: what this host has, which is `stage1_check`'s).

    Attributes:
        name: as in its entry point.
        version: of the plugin.
        interface: version of the stage1 interface that it speaks.
        state: version of what it keeps under a pod's stage1/ folder.
        serves: (interface, state) pairs of *other* versions whose pods this code can run, enter, stop and collect.
        capabilities: of `apps` (more than one app), `enter`, `tty`, `private-users`, `restart`, `readonly-rootfs`,
            `notify`, `event-handlers`, `ports`, `hostname`, `dns`, `network:host`, `network:none`, `network:cni`,
            `volume:host`, `volume:empty`, `volume:tmpfs`, `isolator:<name>`.
        reasons: why a capability that is not among them is not; told to who asks for it.
    """

    name: str
    version: str
    interface: int = INTERFACE
    state: int = 1
    serves: tuple[tuple[int, int], ...] = ()
    capabilities: frozenset[str] = frozenset()
    reasons: Mapping[str, str] = _NONE


class Finding(Record):
    """One line of `stage1 check`: a thing that the host has or lacks.

    Attributes:
        name: of the thing: a program, a kernel feature, a privilege.
        ok: the host has it.
        required: nothing works without it.
        message: what was found.
        hint: how to get it.
        capabilities: what can't be used without it, if it is not required.
    """

    name: str
    ok: bool
    required: bool = True
    message: str = ""
    hint: str | None = None
    capabilities: tuple[str, ...] = ()


class EnterRequest(Record):
    """What `podium enter` asks.

    Attributes:
        app: name of the app.
        command: what to run; empty means: a shell.
        tty: a terminal is asked for; the caller's is on `stdio[0]`.
        stdio: descriptors of the caller's standard input, output and error.
    """

    app: str
    command: tuple[str, ...] = ()
    tty: bool = False
    stdio: tuple[int, int, int] = (0, 1, 2)


class StopRequest(Record):
    """What `podium stop` and `podium kill` ask.

    Attributes:
        signal: send this signal to every app and return at once (`kill`); None: end the pod.
        timeout: seconds that the apps have to end before they are killed.
        force: kill at once.
        app: send the signal to this app alone; None: to every app.
    """

    signal: int | None = None
    timeout: float = 10.0
    force: bool = False
    app: str | None = None


class Ledger(Protocol):
    """The pod's write-ahead list of host resources: `intend` before a resource is taken, `held` once it is."""

    def intend(self, kind: str, id: str, **attrs: Any) -> int:
        """Record the intent to take a resource; returns the entry's number."""

    def held(self, number: int, **attrs: Any) -> None:
        """Record that the resource of entry `number` is held now; `attrs` say more of what it is."""

    def released(self, number: int, by: str = "plugin") -> None:
        """Record that the resource of entry `number` is gone."""

    def outstanding(self) -> Sequence[Resource]:
        """What is intended or held and not released, oldest first."""

    def take(self, kind: str, id: str, **attrs: Any) -> AbstractContextManager[int]:
        """`intend` on entry of the block, `held` when it ends without an exception."""


class Resource(Record):
    """A ledger entry: `kind` of mount, netns, link, address, cgroup, process, loop, socket, path, ids."""

    number: int
    kind: str
    id: str
    attrs: Mapping[str, Any]
    held: bool


class Supervisor(Protocol):
    """What `stage1_run` is given to run a pod's apps and tell of them."""

    @property
    def ledger(self) -> Ledger:
        """The pod's ledger."""

    def run_apps(self, sandbox: Sandbox) -> int:
        """Start every app into `sandbox`, serve them until the pod ends; returns the pod's exit code."""

    def make_cgroup(self) -> str:
        """Make the pod's cgroup, if it is not there yet; returns its path below every hierarchy.

        `run_apps` does it too: only a stage1 that puts a process of its own there calls it.
        """

    def network(self) -> NetworkSetup | None:
        """Put the pod into its networks; None for `host` and `none`, where there is nothing to do.

        To be called once, before the stage1 leaves the host's mount namespace. The supervisor takes the pod out again.

        Raises:
            Failed, HostLacks: a network plugin failed.
            InUse: a host port is taken.
        """

    def facts(self, **facts: Any) -> None:
        """Record what `podium status` shall tell of the run."""

    def leader(self, process: Process) -> None:
        """Record the process that stands for the pod (the sandbox's init)."""

    def heed_stop(self) -> None:
        """Give up if the pod has been asked to end: a stage1 that takes seconds to make its sandbox asks meanwhile.

        It lets the error through once it has ended what it has made; no app is started, and each ends as if by the
        signal.

        Raises:
            Stopped: there was a signal that ends pods, or who waits for the pod has gone.
        """

    def ready(self, app: str) -> None:
        """Tell that an app of a `RemoteSandbox` has said that it is ready (sd_notify(3)), as its `notify` asks."""


class Sandbox(Protocol):
    """What a stage1 made for the apps to be started into."""

    @property
    def namespaces(self) -> Mapping[str, int]:
        """Kind (`mnt`, `net`, `ipc`, `uts`, `pid`, `user`) → descriptor to join; empty: the supervisor's own."""

    @property
    def default_capabilities(self) -> Sequence[str] | None:
        """What an app that asks for no capability isolator retains; None: everything that podium has."""

    @property
    def ptmx(self) -> str:
        """Path, for the supervisor, of the ptmx of the devpts that the apps see."""

    def root(self, app: App) -> str:
        """Path of the app's rootfs, as seen after the namespaces have been joined."""


class UnfinishedSandbox(Sandbox, Protocol):
    """A sandbox that something else is still making when `Supervisor.run_apps` is given it, which looks the apps up
    meanwhile: users, limits, cgroups. Until `finish` returns, nobody asks for its `namespaces` or its `ptmx`.
    """

    def finish(self) -> Process:
        """Wait until the sandbox is there, once; returns the process that stands for the pod.

        Raises:
            Failed: it could not be made.
        """


class LastingSandbox(Sandbox, Protocol):
    """A sandbox that outlives the process that made it: so its supervisor can become a smaller one while it waits.

    Once it has waited for a while, the supervisor executes another program: same pid, same children, same open files,
    but nothing in memory, so that `run_apps` never returns. When something is to be decided, that program loads
    the same code again, makes the sandbox anew by `taken_over`, serves the apps to their end, and calls `close`, after
    which the pod's exit code is that of the apps. A stage1 that wants to do more once `run_apps` has returned
    leaves `handed_on` out: its supervisor then stays as it is.
    """

    def handed_on(self, keep: Callable[[int], int]) -> Mapping[str, Any]:
        """What `taken_over` needs, as JSON has it; `keep` is told each descriptor that has to stay open."""

    @classmethod
    def taken_over(cls, pod: Pod, record: Mapping[str, Any]) -> Self:
        """The sandbox that `handed_on` told of."""

    def close(self) -> None:
        """End what is left of it."""


class Pump(Protocol):
    """What a sandbox has to be copied while the supervisor waits."""

    def fileno(self) -> int:
        """What to wait for."""

    def pump(self) -> bool:
        """Copy what is there; False when nothing more will come."""


class RemoteSandbox(Sandbox, Protocol):
    """A sandbox whose apps are no processes of this host: a virtual machine.

    `Supervisor.run_apps` leaves starting and limiting them to it. What it starts in their place is a child of the
    supervisor that hands signals on and ends as the app ends.
    """

    @property
    def pumps(self) -> Sequence[Pump]:
        """What the supervisor copies while it waits."""

    def start(self, app: App, launch: Launch, stdio: tuple[int, int, int], *, terminal: bool = False) -> int:
        """Start a command of the app; returns the pid of what stands for it. See `podium.sandbox.app.start`."""

    def end(self, app: App) -> None:
        """End what the app's first process has left running."""

    def failure(self, app: App) -> str | None:
        """Why the app's last command ended, where its exit code or signal does not say it."""


class LastingRemoteSandbox(RemoteSandbox, LastingSandbox, Protocol):
    """A remote sandbox whose supervisor can become a smaller one, too.

    That copies the pumps of core's own kinds (`podium.sandbox.console.ConsolePump` and
    `podium.sandbox.plugin_log.PluginPump`). One of any other kind it does not know: it becomes a supervisor again when
    there is something to be copied.
    """

    def served_by(self, supervisor: Supervisor, pumps: Sequence[Pump]) -> None:
        """Have this supervisor, once `taken_over` has made it; `pumps` are those of core's kinds as they are now."""
