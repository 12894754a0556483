"""What a cgroup may use, and how that is said to v1 and to v2 controllers.

Kernel documentation: admin-guide/cgroup-v2 and admin-guide/cgroup-v1.
"""

from __future__ import annotations

from podium.linux import hierarchies
from podium.linux.hierarchies import Hierarchies
from podium.named import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

_PERIOD = 100_000  # microseconds in which cpu_millis are counted, the kernel's default


class IoLimit(NamedTuple):
    """What may be read from and written to one block device; None: no limit.

    Attributes:
        device: `MAJOR:MINOR`, of a whole disk.
        read_bps, write_bps: bytes per second.
        read_iops, write_iops: operations per second.
    """

    device: str
    read_bps: int | None = None
    write_bps: int | None = None
    read_iops: int | None = None
    write_iops: int | None = None


class Limits(NamedTuple):
    """What a cgroup may use; None: as it is.

    Attributes:
        memory_max: bytes, beyond which something in it is killed; swap counts.
        memory_low: bytes that are left to it when the host is short of memory (appc's request).
        cpu_millis: thousandths of one processor's time, at most.
        cpu_shares: 2..262144, its weight against its siblings (1024: normal).
        pids_max: most processes and threads.
        io: limits of devices.
    """

    memory_max: int | None = None
    memory_low: int | None = None
    cpu_millis: int | None = None
    cpu_shares: int | None = None
    pids_max: int | None = None
    io: tuple[IoLimit, ...] = ()


def controllers(limits: Limits) -> list[str]:
    """Names of the controllers that the limits need: memory, cpu, pids, io."""
    needed = {
        "memory": (limits.memory_max, limits.memory_low) != (None, None),
        "cpu": (limits.cpu_millis, limits.cpu_shares) != (None, None),
        "pids": limits.pids_max is not None,
        "io": bool(limits.io),
    }
    return [name for name, wanted in needed.items() if wanted]


def missing(limits: Limits, at: Hierarchies | None = None) -> list[str]:
    """Names of the controllers that the limits need and the host has not (`at`: other hierarchies than the host's)."""
    at = at or hierarchies.current()
    return [name for name in controllers(limits) if not _usable(name, at)]


def _usable(name: str, at: Hierarchies) -> bool:
    folder = at.folder(name, "any")
    if folder is None or name != "io" or at.is_v2(folder):
        return folder is not None
    import os

    # v1's blkio is also there in kernels that weigh (CONFIG_BLK_CGROUP) but can't throttle.
    return os.path.exists(f"{at.v1['blkio']}/blkio.throttle.read_bps_device")


def apply(path: str, limits: Limits, at: Hierarchies | None = None) -> None:
    """Limit a cgroup that exists, and is still empty: it is made in the v1 hierarchies of the limits.

    Args:
        path: below every hierarchy.
        limits: what it may use.
        at: the hierarchies, if not the host's.

    Raises:
        HostLacks: a controller is not there, was not delegated, or lacks what a limit needs; it is named.
    """
    from podium.errors import HostLacks

    at = at or hierarchies.current()
    for controller in controllers(limits):
        folder = at.folder(controller, path)
        if folder is None:
            raise HostLacks(
                f"the host has no cgroup controller {controller!r}",
                hint="'podium stage1 check' lists what the host has; drop the isolator that needs it",
                subject=controller,
            )
        if at.is_v2(folder):
            version = _v2(controller, limits)
        else:
            version = _v1(controller, limits)
            hierarchies.make(folder.removesuffix(f"/{path}"), path, at)
        for name, text, optional in version:
            try:
                hierarchies.write(f"{folder}/{name}", text)
            except FileNotFoundError:
                if optional:
                    continue
                raise HostLacks(
                    f"cgroup controller {controller!r} can't be used: {folder}/{name} is missing",
                    hint="the kernel lacks it, or it is not delegated to the parent cgroup (cgroup.subtree_control)",
                    subject=controller,
                ) from None


def weight(shares: int) -> int:
    """cpu.weight (1..10000) of v1's cpu.shares (2..262144), by the line that runc, crun and systemd draw."""
    return 1 + (min(max(shares, 2), 262144) - 2) * 9999 // 262142


def _quota(millis: int) -> int:
    return max(millis * _PERIOD // 1000, 1000)  # the kernel takes no less than a millisecond


# Each yields (file, what to write, whether it may be missing).
def _v2(controller: str, limits: Limits) -> Iterator[tuple[str, str, bool]]:
    if controller == "memory":
        if limits.memory_max is not None:
            yield "memory.max", str(limits.memory_max), False
            yield "memory.swap.max", "0", True  # without swap there is no such file
        if limits.memory_low is not None:
            yield "memory.low", str(limits.memory_low), False
    elif controller == "cpu":
        if limits.cpu_millis is not None:
            yield "cpu.max", f"{_quota(limits.cpu_millis)} {_PERIOD}", False
        if limits.cpu_shares is not None:
            yield "cpu.weight", str(weight(limits.cpu_shares)), False
    elif controller == "pids":
        yield "pids.max", str(limits.pids_max), False
    else:
        for device in limits.io:
            keys = zip(("rbps", "wbps", "riops", "wiops"), device[1:], strict=True)
            text = " ".join(f"{key}={value}" for key, value in keys if value is not None)
            yield "io.max", f"{device.device} {text}", False


def _v1(controller: str, limits: Limits) -> Iterator[tuple[str, str, bool]]:
    if controller == "memory":
        if limits.memory_max is not None:
            # Memory with swap may never be below memory alone, so it makes way first.
            yield "memory.memsw.limit_in_bytes", "-1", True
            yield "memory.limit_in_bytes", str(limits.memory_max), False
            yield "memory.memsw.limit_in_bytes", str(limits.memory_max), True
        if limits.memory_low is not None:
            yield "memory.soft_limit_in_bytes", str(limits.memory_low), False
    elif controller == "cpu":
        if limits.cpu_millis is not None:
            yield "cpu.cfs_period_us", str(_PERIOD), False
            yield "cpu.cfs_quota_us", str(_quota(limits.cpu_millis)), False
        if limits.cpu_shares is not None:
            yield "cpu.shares", str(limits.cpu_shares), False
    elif controller == "pids":
        yield "pids.max", str(limits.pids_max), False
    else:
        names = ("read_bps_device", "write_bps_device", "read_iops_device", "write_iops_device")
        for device in limits.io:
            for name, value in zip(names, device[1:], strict=True):
                if value is not None:
                    yield f"blkio.throttle.{name}", f"{device.device} {value}", False
