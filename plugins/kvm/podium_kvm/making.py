"""What a machine is made of: at prepare its kernel, images, initial file system and disk; at run the machine."""

from __future__ import annotations

import errno
import os

from podium.errors import Failed
from podium.linux import cgroup
from podium.linux.files import write_atomic
from podium.linux.programs import needed
from podium.sandbox import derived, kernels
from podium.types import Pod, Supervisor
from podium_kvm import accelerator, initrd, network, queues
from podium_kvm.files import folder
from podium_kvm.machine import PORTS_PER_BUS, STREAMS
from podium_kvm.sandbox import KvmSandbox

MIN_MEMORY = 128  # MiB; with 64 the kernel does not boot
OVERHEAD = 72  # MiB that the guest's kernel and init need beside the apps, where a queue has few buffers
APP_OVERHEAD = 4  # MiB more for each app
ENTERED = 4  # commands that are entered at a time and have memory for their ports
BUFFER = 4096  # bytes of one in a queue: a page
PAGES = 64  # of so much memory one part is the kernel's, to describe it
HOST_OVERHEAD = 192  # MiB that QEMU and the relays need beside the guest
HOST_PIDS = 512  # threads of QEMU and virtiofsd, and the relays
DISK_SIZE = 8 << 30  # bytes; sparse
_KERNEL = "kernel"
_FOR_NETWORKS = ("failover.ko", "net_failover.ko", "virtio_net.ko")
_FOR_VOLUMES = ("fuse.ko", "virtiofs.ko")


def memory_of(pod: Pod, buffers: int) -> int:
    """MiB of the guest: the pod's limit, else the sum of its apps' where each has one; the guest's own comes on top.

    Args:
        pod: the pod.
        buffers: of a queue of a port.
    """
    asked = pod.isolators.memory_limit
    each = [app.isolators.memory_limit for app in pod.apps]
    if asked is None:
        asked = sum(limit or 0 for limit in each) if all(each) else 0
    apps = (asked + (1 << 20) - 1) >> 20
    ports = 2 + len(STREAMS) * (len(pod.apps) + ENTERED)
    filled = ports + 2 + len(pod.apps) * len(STREAMS) // PORTS_PER_BUS  # and the control queue of each bus
    more = (buffers - queues.FEW) * filled * BUFFER >> 20
    return max(MIN_MEMORY, apps + apps // PAGES + OVERHEAD + APP_OVERHEAD * len(pod.apps)) + more


def cpus_of(pod: Pod) -> int:
    """Virtual processors: the pod's limit in whole ones, else 1 (under TCG a second one costs more than it gives)."""
    limits = [pod.isolators.cpu_limit or 0, *(app.isolators.cpu_limit or 0 for app in pod.apps)]
    return max(1, min(os.cpu_count() or 1, (max(limits) + 999) // 1000))


def _host_limits(pod: Pod, guest: int) -> cgroup.Limits:
    """In place of the pod's own, which are the guest's: here QEMU's share comes on top."""
    memory, pids = pod.isolators.memory_limit, pod.isolators.pids
    return cgroup.Limits(
        memory_max=None if memory is None else (guest + HOST_OVERHEAD) << 20,
        pids_max=None if pids is None else HOST_PIDS,
    )


def prepare(pod: Pod) -> None:
    """Make what a run needs, and record the kernel.

    Raises:
        HostLacks: a program, the kernel or a module is not there.
        Failed: the disk can't be made.
    """
    at = folder(pod)
    os.makedirs(at, mode=0o700, exist_ok=True)
    with _Disk(os.path.join(at, "rw")):
        _prepare_boot(pod, at)


def _prepare_boot(pod: Pod, at: str) -> None:
    kernel = kernels.obtain(pod.data_root, pod.settings.get("kernel") or None)
    write_atomic(os.path.join(pod.stage1_dir, _KERNEL), f"{kernel.digest}\n".encode())
    images = _serials(pod)
    for app in pod.apps:
        derived.tree_image(pod.data_root, app.image_id, app.rootfs)
    order = [name for name in kernels.load_order(kernel) if name not in _unused(pod)]
    with open(os.open(os.path.join(at, "initrd"), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644), "wb") as f:
        initrd.write(f, pod, images, needed("busybox", "busybox-static"), kernel.modules, order)
    os.mkfifo(os.path.join(at, "ctl"), 0o600)


def _unused(pod: Pod) -> set[str]:
    """Modules that this guest has no use for: to load one takes ten milliseconds under emulation."""
    without: set[str] = set()
    if pod.network.names == ("none",):
        without.update(_FOR_NETWORKS)
    if not any(app.mounts for app in pod.apps):
        without.update(_FOR_VOLUMES)
    return without


def start(pod: Pod, supervisor: Supervisor) -> KvmSandbox:
    """Boot the pod's machine.

    Raises:
        HostLacks: its kernel is gone, or QEMU.
        Failed: it did not boot.
    """
    memory, cpus = memory_of(pod, queues.size(pod.data_root)), cpus_of(pod)
    cgroup.apply(pod.cgroup, _host_limits(pod, memory))
    with open(os.path.join(pod.stage1_dir, _KERNEL), encoding="ascii") as f:
        kernel = kernels.stored(pod.data_root, f.read().strip())
    rootfs = {app.image_id: app.rootfs for app in pod.apps}
    images = tuple(
        (serial, derived.tree_image(pod.data_root, image, rootfs[image])) for image, serial in _serials(pod).items()
    )
    asked = pod.settings.get("accel", accelerator.AUTO)
    chosen = accelerator.choose(pod.data_root, asked)
    supervisor.facts(accelerator=chosen.name, accelerator_reason=chosen.reason)
    taps, archive = network.connect(pod, supervisor)
    with open(os.path.join(folder(pod), "initrd"), "ab") as first:
        first.write(archive)
    made = KvmSandbox(pod, kernel.vmlinux, images, taps)
    try:
        made.make(supervisor, chosen.name, memory, cpus)
    except Failed as e:
        made.close()
        if chosen.name != accelerator.KVM or asked == accelerator.KVM:
            raise
        print(f"falling back to tcg: {e.message}", flush=True)
        why = f"with kvm, {e.message.partition(';')[0]}"
        supervisor.facts(accelerator="tcg", accelerator_reason=why)
        made = KvmSandbox(pod, kernel.vmlinux, images, taps)
        try:
            made.make(supervisor, "tcg", memory, cpus)
            accelerator.distrust(pod.data_root, why)
        except BaseException:
            made.close()
            raise
    except BaseException:
        made.close()
        raise
    finally:
        network.close(taps)
    return made


def _serials(pod: Pod) -> dict[str, str]:
    """Image id → serial of the disk that carries it."""
    ids = dict.fromkeys(app.image_id for app in pod.apps)
    return {image: f"image{number}" for number, image in enumerate(ids)}


class _Disk:
    """Meanwhile a sparse file is made with an ext4 in it, without journal: after a power failure it is of no use.

    It is made in memory, and its few pages copied: mke2fs(8) syncs what it writes, up to four times.
    """

    def __init__(self, path: str) -> None:
        self._path = path

    def __enter__(self) -> None:
        self._said, self._made = os.memfd_create("mke2fs"), os.memfd_create("disk")
        os.ftruncate(self._made, DISK_SIZE)
        self._pid = _mke2fs(f"/proc/{os.getpid()}/fd/{self._made}", self._said)

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if os.waitpid(self._pid, 0)[1] and kind is None:
                reason = os.pread(self._said, 4096, 0).decode("utf-8", "replace").strip()
                raise Failed(f"the pod's disk can't be made: {reason}", subject=self._path)
            if kind is None:
                fd = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
                try:
                    os.ftruncate(fd, DISK_SIZE)
                    _copy_data(self._made, fd)
                finally:
                    os.close(fd)
        finally:
            os.close(self._made)
            os.close(self._said)


def _mke2fs(path: str, said: int) -> int:
    """Start it; returns its pid. What nobody will grow needs no room for that."""
    features = ["-O", "^has_journal,^resize_inode", "-E", "lazy_itable_init=1,nodiscard"]
    argv = [needed("mke2fs", "e2fsprogs"), "-t", "ext4", "-q", "-F", "-m", "0", *features, path]
    streams = [
        (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
        *((os.POSIX_SPAWN_DUP2, said, fd) for fd in (1, 2)),
    ]
    return os.posix_spawn(argv[0], argv, os.environ, file_actions=streams)


def _copy_data(source: int, target: int) -> None:
    """Copy what is no hole."""
    end = 0
    while True:
        try:
            begin = os.lseek(source, end, os.SEEK_DATA)
        except OSError as e:
            if e.errno != errno.ENXIO:
                raise
            return
        end = os.lseek(source, begin, os.SEEK_HOLE)
        os.pwrite(target, os.pread(source, end - begin, begin), begin)
