"""What a machine is made of: at prepare its kernel, images, initial file system and disk; at run the machine."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

from podium.errors import Failed, HostLacks
from podium.linux import cgroup
from podium.linux.files import write_atomic
from podium.sandbox import derived, kernels
from podium.types import Pod, Supervisor
from podium_kvm import accelerator, initrd, network
from podium_kvm.files import folder
from podium_kvm.sandbox import KvmSandbox

MIN_MEMORY = 128  # MiB; with 64 the kernel does not boot
OVERHEAD = 72  # MiB that the guest's kernel and init need beside the apps
APP_OVERHEAD = 4  # MiB more for each app
PAGES = 64  # of so much memory one part is the kernel's, to describe it
HOST_OVERHEAD = 192  # MiB that QEMU and the relays need beside the guest
HOST_PIDS = 512  # threads of QEMU and virtiofsd, and the relays
DISK_SIZE = 8 << 30  # bytes; sparse
_KERNEL = "kernel"


def memory_of(pod: Pod) -> int:
    """MiB of the guest: the pod's limit, else the sum of its apps' where each has one; the guest's own comes on top."""
    asked = pod.isolators.memory_limit
    each = [app.isolators.memory_limit for app in pod.apps]
    if asked is None:
        asked = sum(limit or 0 for limit in each) if all(each) else 0
    apps = (asked + (1 << 20) - 1) >> 20
    return max(MIN_MEMORY, apps + apps // PAGES + OVERHEAD + APP_OVERHEAD * len(pod.apps))


def cpus_of(pod: Pod) -> int:
    """Virtual processors: the pod's limit in whole ones, else 1 (under TCG a second one costs more than it gives)."""
    limits = [pod.isolators.cpu_limit or 0, *(app.isolators.cpu_limit or 0 for app in pod.apps)]
    return max(1, min(os.cpu_count() or 1, (max(limits) + 999) // 1000))


def _host_limits(pod: Pod) -> cgroup.Limits:
    """In place of the pod's own, which are the guest's: here QEMU's share comes on top."""
    memory, pids = pod.isolators.memory_limit, pod.isolators.pids
    return cgroup.Limits(
        memory_max=None if memory is None else (memory_of(pod) + HOST_OVERHEAD) << 20,
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
    with _disk_made(os.path.join(at, "rw")):
        _prepare_boot(pod, at)


def _prepare_boot(pod: Pod, at: str) -> None:
    kernel = kernels.obtain(pod.data_root, pod.settings.get("kernel") or None)
    write_atomic(os.path.join(pod.stage1_dir, _KERNEL), f"{kernel.digest}\n".encode())
    images = _serials(pod)
    for app in pod.apps:
        derived.tree_image(pod.data_root, app.image_id, app.rootfs)
    first = initrd.base(_needed("busybox", "busybox-static"), kernel.modules, kernels.load_order(kernel))
    with open(os.open(os.path.join(at, "initrd"), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644), "wb") as f:
        f.write(first)
        f.write(initrd.of_pod(pod, images))
    os.mkfifo(os.path.join(at, "ctl"), 0o600)


def start(pod: Pod, supervisor: Supervisor) -> KvmSandbox:
    """Boot the pod's machine.

    Raises:
        HostLacks: its kernel is gone, or QEMU.
        Failed: it did not boot.
    """
    _needed("qemu-system-x86_64", "qemu-system-x86")
    cgroup.apply(pod.cgroup, _host_limits(pod))
    with open(os.path.join(pod.stage1_dir, _KERNEL), encoding="ascii") as f:
        kernel = kernels.stored(pod.data_root, f.read().strip())
    rootfs = {app.image_id: app.rootfs for app in pod.apps}
    images = tuple(
        (serial, derived.tree_image(pod.data_root, image, rootfs[image])) for image, serial in _serials(pod).items()
    )
    asked = pod.settings.get("accel", accelerator.AUTO)
    chosen = accelerator.choose(pod.data_root, asked)
    supervisor.facts(accelerator=chosen.name, accelerator_reason=chosen.reason)
    memory, cpus = memory_of(pod), cpus_of(pod)
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


@contextmanager
def _disk_made(path: str) -> Iterator[None]:
    """Make, meanwhile, a sparse file with an ext4 in it, without journal: after a power failure it is of no use."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    os.ftruncate(fd, DISK_SIZE)
    os.close(fd)
    options = ["-q", "-F", "-m", "0", "-O", "^has_journal", "-E", "lazy_itable_init=1,nodiscard"]
    argv = [_needed("mke2fs", "e2fsprogs"), "-t", "ext4", *options, path]
    pipe = subprocess.PIPE
    with subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=pipe, stderr=pipe, text=True) as made:
        yield
        said = made.communicate()[1]
    if made.returncode:
        raise Failed(f"the pod's disk can't be made: {said.strip()}", subject=path)


def _needed(name: str, package: str) -> str:
    path = shutil.which(name)
    if path is None:
        raise HostLacks(f"{name} is not installed", hint=f"apt-get install {package}", subject=name)
    return path
