"""A virtual machine with cgroup v2 alone, in which tests run on this machine's own files, which it can't write."""

from __future__ import annotations

import os
import shlex
import signal
import stat
import subprocess
from collections.abc import Sequence

from podium.format import ensure
from podium.paths import DataDir
from podium.sandbox import kernels
from podium_kvm import initrd, sharing
from podium_kvm.machine import APPEND

_MEMORY = 1536  # MiB
_CPUS = 2
# Under /host is the machine's own root. What may be written is /run, /tmp and the disk.
_INIT = """#!/bin/busybox sh
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
for applet in mount insmod cat mkdir ip umount switch_root; do /bin/busybox ln -s busybox /bin/$applet; done
mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t devtmpfs dev /dev
for module in $(cat /modules/order); do insmod /modules/$module; done
mount -t virtiofs -o ro shared /host && mount -t proc proc /host/proc && mount -t sysfs sys /host/sys
mount -t devtmpfs dev /host/dev; mkdir -p /host/dev/pts /host/dev/shm; mount -t devpts -o ptmxmode=666 pts /host/dev/pts
mount -t tmpfs shm /host/dev/shm; mount -t cgroup2 cgroup /host/sys/fs/cgroup
mount -t tmpfs run /host/run; mount -t tmpfs tmp /host/tmp; mount -t ext4 /dev/vda /host/mnt
ip link set lo up
umount /proc /sys
exec switch_root /host /bin/sh -c {command}
"""
_WRITABLE = "export HOME=/tmp PYTHONDONTWRITEBYTECODE=1 HYPOTHESIS_STORAGE_DIRECTORY=/tmp/hypothesis; "
_WRAPPED = 'sh -c {command} > /dev/ttyS1 2>&1 < /dev/null; echo "ended with $?" > /dev/ttyS1; busybox poweroff -f'


def run(folder: str, command: str, timeout: float) -> tuple[int, str]:
    """Run a shell command in the guest, where /mnt is a disk of its own.

    Args:
        folder: for what is made, on a disk.
        command: sees this machine's files, read-only.
        timeout: seconds.

    Returns:
        Its exit code, -1 where it did not get that far; what it has printed.
    """
    data = DataDir(os.path.join(folder, "data"))
    ensure(data)
    kernel = kernels.obtain(data.root)
    with open(os.path.join(os.path.dirname(kernel.vmlinux), "kernel.json"), encoding="utf-8") as f:
        order = _order(f.read())
    disk, image = os.path.join(folder, "disk.img"), os.path.join(folder, "initrd")
    with open(disk, "wb") as f2:
        f2.truncate(1 << 30)
    subprocess.run(["mkfs.ext4", "-q", "-F", disk], check=True, stdin=subprocess.DEVNULL)
    with open(image, "wb") as f2:
        f2.write(initrd.archive(_files(kernel.modules, order, command)))
    console, output, sock = (os.path.join(folder, name) for name in ("console", "output", "fs.sock"))
    program = sharing.program()
    assert program is not None, sharing.INSTALL
    daemon = subprocess.Popen(
        [program, f"--socket-path={sock}", "--rlimit-nofile=0", "-o", "source=/,sandbox=chroot,cache=always"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        while not os.path.exists(sock):  # it can be given no descriptor and a path; it listens at once
            assert daemon.poll() is None, "virtiofsd ended"
        argv = _qemu(kernel.vmlinux, image, disk, console, output, sock)
        with subprocess.Popen(argv, stdin=subprocess.DEVNULL, start_new_session=True) as machine:
            try:
                machine.wait(timeout)
            except subprocess.TimeoutExpired:
                pass
            finally:
                machine.send_signal(signal.SIGKILL)
    finally:
        daemon.kill()
        daemon.wait()
    with open(output, encoding="utf-8", errors="replace") as f:
        text = f.read().replace("\r", "")
    said, _, code = text.rpartition("ended with ")
    if not code.strip().isdigit():
        with open(console, encoding="utf-8", errors="replace") as f:
            return -1, text + f.read()
    return int(code), said


def _order(record: str) -> Sequence[str]:
    import json

    order: list[str] = json.loads(record)["order"]
    return order


def _files(modules: str, order: Sequence[str], command: str) -> list[tuple[str, int, bytes]]:
    with open("/usr/bin/busybox", "rb") as f:
        busybox = f.read()
    folders = ("bin", "proc", "sys", "dev", "host", "modules")
    entries = [(folder, stat.S_IFDIR | 0o755, b"") for folder in folders]
    entries.append(("bin/busybox", stat.S_IFREG | 0o755, busybox))
    last = shlex.quote(_WRAPPED.format(command=shlex.quote(_WRITABLE + command)))
    entries.append(("init", stat.S_IFREG | 0o755, _INIT.format(command=last).encode()))
    entries.append(("modules/order", stat.S_IFREG | 0o644, "".join(f"{name}\n" for name in order).encode()))
    for name in order:
        with open(os.path.join(modules, name), "rb") as f:
            entries.append((f"modules/{name}", stat.S_IFREG | 0o644, f.read()))
    return entries


def _qemu(vmlinux: str, image: str, disk: str, console: str, output: str, sock: str) -> list[str]:
    return [
        *("qemu-system-x86_64", "-M", "q35,memory-backend=mem", "-accel", "tcg,thread=multi", "-cpu", "max"),
        *("-m", str(_MEMORY), "-smp", str(_CPUS), "-object", f"memory-backend-memfd,id=mem,size={_MEMORY}M,share=on"),
        *("-nodefaults", "-no-user-config", "-no-reboot", "-display", "none"),
        *("-kernel", vmlinux, "-initrd", image),
        *("-append", f"{APPEND} cgroup_no_v1=all mitigations=off"),
        *("-serial", f"file:{console}", "-serial", f"file:{output}"),
        *("-drive", f"if=none,id=disk,format=raw,file={disk},cache=writeback", "-device", "virtio-blk-pci,drive=disk"),
        *("-chardev", f"socket,id=shared,path={sock}", "-device", "vhost-user-fs-pci,chardev=shared,tag=shared"),
    ]
