"""Where KVM works, the probe says yes: in an emulated machine whose processor has AMD's virtualisation."""

from __future__ import annotations

import glob
import os
import shutil
import subprocess

import pytest

from podium.linux.kernel_image import vmlinux
from podium_kvm import accelerator

PYTHON = "/usr/bin/python3"
INIT = """#!/bin/sh
/bin/busybox mount -t devtmpfs dev /dev
/bin/busybox mount -t proc proc /proc
exec >/dev/ttyS0 2>&1
for module in irqbypass kvm kvm-amd; do
    /bin/busybox insmod /modules/$module.ko
done
echo "verdict: $(/usr/bin/python3 -I -S -B /probe.py)"
/bin/busybox poweroff -f
"""
NEEDED = """
import runpy, sys
sys.argv = ["probe.py", "/dev/null"]
runpy.run_path(sys.orig_argv[-1], run_name="__main__")
print(*{m.__file__ for m in list(sys.modules.values()) if getattr(m, "__file__", None)}, sep="\\n")
"""


def newest_modules() -> tuple[str, str]:
    """A distribution's kernel and its modules that have kvm-amd."""
    for boot in sorted(glob.glob("/usr/local/lib/podium/kernel/boot/vmlinuz-*") + glob.glob("/boot/vmlinuz-*")):
        release = os.path.basename(boot).removeprefix("vmlinuz-")
        modules = os.path.join(os.path.dirname(os.path.dirname(boot)), "lib/modules", release, "kernel")
        if glob.glob(os.path.join(modules, "arch/x86/kvm/kvm-amd.ko")):
            return boot, modules
    pytest.skip("there is no kernel with kvm-amd: apt-get install linux-image-cloud-amd64")


def put(root: str, source: str, place: str | None = None) -> None:
    target = os.path.join(root, (place or source).lstrip("/"))
    os.makedirs(os.path.dirname(target), exist_ok=True)
    shutil.copy(source, target)


@pytest.mark.skipif(not shutil.which("qemu-system-x86_64"), reason="./bootstrap test installs qemu-system-x86")
@pytest.mark.skipif(not os.path.exists(PYTHON), reason="the guest gets Debian's python3")
def test_probe_says_yes_where_kvm_works(work: str) -> None:
    boot, modules = newest_modules()
    kernel, root, initrd = (os.path.join(work, name) for name in ("vmlinux", "root", "initrd"))
    with open(boot, "rb") as f, open(kernel, "wb") as out:
        out.write(vmlinux(f.read(), boot))
    for folder in ("dev", "proc", "bin"):
        os.makedirs(os.path.join(root, folder))
    probe = os.path.join(os.path.dirname(accelerator.__file__), "probe.py")
    put(root, probe, "probe.py")
    put(root, shutil.which("busybox") or "busybox", "bin/busybox")
    os.symlink("busybox", os.path.join(root, "bin/sh"))
    put(root, PYTHON)
    listing = subprocess.run(
        [PYTHON, "-I", "-S", "-B", "-c", NEEDED, probe], capture_output=True, text=True, check=True
    ).stdout
    files = [line for line in listing.splitlines() if line.startswith("/")]
    binaries = [PYTHON, *(path for path in files if path.endswith(".so"))]
    linked = subprocess.run(["ldd", *binaries], capture_output=True, text=True, check=True).stdout
    for path in {*files, *(word for word in linked.split() if word.startswith("/") and not word.endswith(":"))}:
        put(root, path)
    for path in glob.glob("/usr/lib/python3.*/encodings/*.py"):
        put(root, path)
    for name in ("virt/lib/irqbypass.ko", "arch/x86/kvm/kvm.ko", "arch/x86/kvm/kvm-amd.ko"):
        put(root, os.path.join(modules, name), os.path.join("modules", os.path.basename(name)))
    with open(os.path.join(root, "init"), "w") as init:
        init.write(INIT)
    os.chmod(init.name, 0o755)
    with open(initrd, "wb") as out:
        subprocess.run("find . | cpio -o -H newc --quiet", shell=True, cwd=root, stdout=out, check=True)
    command = [
        "qemu-system-x86_64", "-accel", "tcg", "-M", "q35", "-cpu", "qemu64,+svm,+npt", "-m", "384", "-nodefaults",
        "-no-reboot", "-display", "none", "-serial", "stdio", "-kernel", kernel, "-initrd", initrd,
        "-append", "console=ttyS0 quiet panic=-1 cryptomgr.notests",
    ]  # fmt: skip
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", timeout=120
    )
    assert "verdict: yes" in done.stdout, done.stdout[-2000:] + done.stderr[-500:]
