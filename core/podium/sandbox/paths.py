"""Masked and read-only paths of an app's rootfs, and parameters of the kernel that are a pod's own."""

from __future__ import annotations

import os
import stat

from podium.errors import BadInput, HostLacks
from podium.linux import mount
from podium.linux.resolve import open_in_root
from podium.types import App, Pod

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

# By the namespace that has them (ipc_namespaces(7), network_namespaces(7)); a final dot stands for all below.
_IPC = (
    *("kernel.msgmax", "kernel.msgmnb", "kernel.msgmni", "kernel.sem", "kernel.shmall", "kernel.shmmax"),
    *("kernel.shmmni", "kernel.shm_rmid_forced", "fs.mqueue."),
)
_NET = ("net.",)


def confine_paths(app: App, root: int) -> None:
    """Hide an app's masked paths, and let nobody write to its read-only ones; what is not there needs neither.

    Called last, when all else that the app sees is mounted.

    Args:
        app: the app.
        root: descriptor of its rootfs, in the caller's mount namespace.
    """
    for path in app.isolators.readonly_paths:
        for target in _find(root, path):
            mount.bind(target, target, recursive=True, read_only=True)
    for path in app.isolators.masked_paths:
        for target in _find(root, path):
            if stat.S_ISDIR(os.fstat(target).st_mode):
                # In a sandbox /proc/self is not ours, so nothing here may go by a path of a descriptor.
                mount.attach_new("tmpfs", target, mount.MOUNT_ATTR_RDONLY)
            else:
                mount.bind("/dev/null", target)


def _find(root: int, path: str) -> Iterable[int]:
    try:
        target = open_in_root(root, path, os.O_PATH | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        return
    try:
        yield target
    finally:
        os.close(target)


def sysctls(pod: Pod) -> dict[str, str]:
    """The kernel's parameters that a pod and its apps ask for; name, with dots → value.

    Raises:
        BadInput: two ask for different values.
    """
    found: dict[str, str] = {}
    for isolators in (pod.isolators, *(app.isolators for app in pod.apps)):
        for name, value in isolators.sysctls.items():
            name = _dotted(name)
            if found.setdefault(name, value) != value:
                raise BadInput(
                    f"sysctl {name} is asked to be {found[name]!r} and {value!r} in one pod",
                    hint="the apps of a pod share its namespaces: ask for one value",
                    subject=name,
                )
    return found


def _dotted(name: str) -> str:
    """As sysctl(8) reads names: whichever of `.` and `/` comes first separates, the other is part of a name."""
    first = next((c for c in name if c in "./"), ".")
    return name if first == "." else name.translate(str.maketrans("./", "/."))


def sysctl_file(name: str) -> str:
    """Path of a parameter's file; its name is with dots, as in `sysctls`."""
    return "/proc/sys/" + name.translate(str.maketrans("./", "/."))


def check_sysctls(pod: Pod, own_network: bool) -> None:
    """Refuse at prepare what is not the pod's own to set. Needs a pod with an IPC namespace of its own.

    Raises:
        BadInput: the parameter is the whole host's, or two apps ask for different values.
        HostLacks: the kernel has no such parameter.
    """
    for name in sysctls(pod):
        if _is_one_of(name, _NET) and not own_network:
            raise BadInput(
                f"sysctl {name} would be the host's own: the pod has the host's network",
                hint="use another network, such as --net none",
                subject=name,
            )
        if not _is_one_of(name, (*_IPC, *_NET)):
            raise BadInput(
                f"sysctl {name} is the whole host's, not a pod's own",
                hint="a pod may set those of net. and of System V and POSIX IPC; set others on the host",
                subject=name,
            )
        # Those of a new network namespace are the host's, but for what only the first one has.
        if not os.path.isfile(sysctl_file(name)):
            raise HostLacks(f"this kernel has no sysctl {name}", hint="see 'sysctl -a'", subject=name)


def _is_one_of(name: str, known: Iterable[str]) -> bool:
    return any(name.startswith(k) if k.endswith(".") else name == k for k in known)


def set_sysctls(values: Mapping[str, str]) -> None:
    """Set parameters in the caller's namespaces, by the /proc of its own.

    Raises:
        BadInput: the kernel does not take the value, or has the parameter in the first namespace only.
    """
    for name, value in values.items():
        try:
            with open(sysctl_file(name), "w", encoding="utf-8") as f:
                f.write(value)
        except OSError as e:
            raise BadInput(f"sysctl {name} can't be {value!r} in a pod: {e.strerror}", subject=name) from None
