"""A pod under KVM that works, from its run to its end: in an emulated machine whose processor has AMD's virtualisation.

That machine has this host's files, read-only, by virtiofs. All in it is emulated, so a command of podium takes seconds:
PODIUM_TEST_FULL=1 runs it. What CI has of it is `test_kvm_probe_nested`.
"""

from __future__ import annotations

import glob
import os
import shutil
import socket
import stat
import subprocess
import sys

import pytest

from podium.sandbox import kernels
from podium.store.store import Store
from podium_kvm import initrd, sharing
from support.images import make_busybox_rootfs

INIT = """#!/bin/busybox sh
export PATH=/bin
mount -t proc proc /proc
mount -t devtmpfs dev /dev
exec >/dev/ttyS0 2>&1
while read -r module; do insmod "/modules/$module"; done </modules/order
mount -t virtiofs -o ro host /lower
mount -t tmpfs -o mode=755 upper /upper
mkdir /upper/files /upper/work
mount -t overlay -o lowerdir=/lower,upperdir=/upper/files,workdir=/upper/work overlay /new
mount -t proc proc /new/proc
mount -t sysfs sysfs /new/sys
mount -t cgroup2 cgroup2 /new/sys/fs/cgroup
mount -t devtmpfs dev /new/dev
chmod 666 /new/dev/kvm # udev would give it to a group
mount -t tmpfs run /new/run
mount -t tmpfs mnt /new/mnt
chroot /new /bin/sh FOLDER/script
poweroff -f
"""
SCRIPT = """
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/mnt
cd /mnt
printf '[kvm]\\naccel = "kvm"\\n' >kvm.toml
podium() { PODIUM --config /mnt/kvm.toml --dir /mnt/data "$@"; echo "podium $1: $?"; }
cp -a FOLDER/made /mnt/data
podium run-prepared vm
podium status vm
podium run-prepared --detach long
podium enter long -- sh -c 'echo entered; exit 5'
podium stop long
podium status long
cat /mnt/data/pods/run/*/plugin.log
podium gc --grace-period 0s
"""
TIME_LIMIT = 1000.0  # seconds; on an idle machine it takes a minute or two
APPLETS = ("chmod", "chroot", "insmod", "mkdir", "mount", "poweroff", "sh")


@pytest.mark.skipif(os.environ.get("PODIUM_TEST_FULL") != "1", reason="minutes; PODIUM_TEST_FULL=1 runs it")
@pytest.mark.skipif(not shutil.which("qemu-system-x86_64"), reason="./bootstrap test installs qemu-system-x86")
def test_a_pod_runs_where_kvm_works(store: Store, work: str) -> None:
    kernel = kernels.obtain(store.data.root)
    make_busybox_rootfs(os.path.join(work, "rootfs"))
    podium = os.path.join(os.path.dirname(sys.executable), "podium")
    made = [podium, "--dir", os.path.join(work, "made")]  # what takes minutes in there: the kernel is taken apart
    box = ["--stage1", "kvm", "--net", "none", "--name"]
    lasting = "trap 'exit 3' TERM; while :; do sleep 0.1; done"
    for words in (
        ["image", "import", os.path.join(work, "rootfs"), "--name", "box", "--exec", "/bin/sh"],
        ["prepare", *box, "vm", "box", "--", "-c", "echo inside; exit 7"],
        ["prepare", *box, "long", "box", "--", "-c", lasting],
    ):
        subprocess.run([*made, *words], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, check=True)
    with open(os.path.join(work, "script"), "w", encoding="utf-8") as f:
        f.write(SCRIPT.replace("FOLDER", work).replace("PODIUM", podium))
    first = os.path.join(work, "initrd")
    with open(first, "wb") as f:
        f.write(_initrd(kernel, work))
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listening:
        listening.bind(os.path.join(work, "fs"))
        listening.listen()
        found = sharing.program()
        assert found is not None
        shown = os.path.join(work, "host")
        os.mkdir(shown)
        argv = sharing.arguments(found, sharing._version(found), listening.fileno(), shown)
        argv = ["unshare", "--mount", "sh", "-c", f'mount --bind / {shown} && exec "$@"', "sh", *argv]
        with subprocess.Popen(argv, pass_fds=[listening.fileno()]) as virtiofsd:
            try:
                subprocess.run(_qemu(kernel.vmlinux, first, work), stdin=subprocess.DEVNULL, timeout=TIME_LIMIT)
            finally:
                virtiofsd.kill()
                with open(os.path.join(work, "said"), encoding="utf-8", errors="replace") as f:
                    said = f.read().replace("\r", "")
                print(said)
    for line in ("inside", "podium run-prepared: 7", "podium status: 0", "podium gc: 0"):
        assert line in said.splitlines()
    for line in ("entered", "podium run-prepared: 0", "podium enter: 5", "podium stop: 0"):
        assert line in said.splitlines()
    told = " ".join(said.split())
    assert told.count("accelerator: kvm (a guest ran)") == 2 and "exited with 7" in told and "exited with 3" in told


def _initrd(kernel: kernels.Kernel, work: str) -> bytes:
    def read(path: str) -> bytes:
        with open(path, "rb") as f:
            return f.read()

    release = kernel.release
    nested: dict[str, str] = {}
    for name in ("irqbypass", "kvm", "kvm-amd"):
        places = [f"{modules}/{release}/kernel/**/{name}.ko" for _, modules in kernels.PLACES]
        files = [path for place in places for path in glob.glob(place, recursive=True)]
        if not files:
            pytest.skip(f"kernel {release} has no {name}: apt-get install linux-image-cloud-amd64")
        nested[f"{name}.ko"] = files[0]
    order = kernels.load_order(kernel)
    paths = {name: os.path.join(kernel.modules, name) for name in order} | nested
    entries = [(name, stat.S_IFDIR | 0o755, b"") for name in ("bin", "dev", "proc", "modules", "lower", "upper", "new")]
    entries.append(("bin/busybox", stat.S_IFREG | 0o755, read(shutil.which("busybox") or "busybox")))
    entries += [(f"bin/{name}", stat.S_IFLNK | 0o777, b"busybox") for name in APPLETS]
    entries.append(("modules/order", stat.S_IFREG | 0o644, "".join(f"{name}\n" for name in paths).encode()))
    entries += [(f"modules/{name}", stat.S_IFREG | 0o644, read(path)) for name, path in paths.items()]
    entries.append(("init", stat.S_IFREG | 0o755, INIT.replace("FOLDER", work).encode()))
    return initrd.archive(entries)


def _qemu(kernel: str, first: str, work: str) -> list[str]:
    return [
        "qemu-system-x86_64", "-accel", "tcg", "-M", "q35,memory-backend=mem", "-cpu", "qemu64,+svm,+npt", "-m", "1024",
        "-object", "memory-backend-memfd,id=mem,size=1024M,share=on", "-nodefaults", "-no-reboot", "-display", "none",
        "-serial", f"file:{work}/said", "-kernel", kernel, "-initrd", first,
        "-append", "console=ttyS0 quiet panic=-1 cryptomgr.notests",
        "-chardev", f"socket,id=fs,path={work}/fs", "-device", "vhost-user-fs-pci,chardev=fs,tag=host",
    ]  # fmt: skip
