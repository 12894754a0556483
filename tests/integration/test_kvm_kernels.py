"""Guests' kernels: taken out of bzImages as they come, stored once, kept while a pod names them."""

from __future__ import annotations

import gzip
import lzma
import os
import signal
import struct
import subprocess
import sys

import pytest
import zstandard

from podium.errors import BadInput, HostLacks, NotFound
from podium.linux import kernel_image
from podium.paths import PREPARED
from podium.sandbox import kernels
from podium.store.store import Store

RELEASE = "6.1.0-1-test"
KILLED = """
import os, signal, sys
from podium.sandbox import kernels
kernels.trace = lambda point: os.kill(os.getpid(), signal.SIGKILL) if point == sys.argv[3] else None
kernels.obtain(sys.argv[1], sys.argv[2])
"""


def elf(size: int = 300_000) -> bytes:
    """Something that starts as an ELF file, and of which parts repeat."""
    return b"\x7fELF\x02\x01" + b"".join(b"%d of many, " % (i % 7000) for i in range(size // 11))


def lz4(data: bytes) -> bytes:
    return subprocess.run(["lz4", "-l", "-9", "-c"], input=data, capture_output=True, check=True).stdout


def xz(data: bytes) -> bytes:
    x86 = [{"id": lzma.FILTER_X86}, {"id": lzma.FILTER_LZMA2}]
    return lzma.compress(data, check=lzma.CHECK_CRC32, filters=x86)


COMPRESSORS = {"lz4": lz4, "xz": xz, "zstd": lambda d: zstandard.compress(d, 19), "gzip": gzip.compress}


def bzimage(content: bytes, how: str = "xz", release: str = RELEASE) -> bytes:
    """A bzImage as the kernel's build lays it out: setup header, version, payload with its size."""
    payload = COMPRESSORS[how](content)
    if how != "gzip":
        payload += struct.pack("<I", len(content))
    head = bytearray(5 * 512)
    head[0x1F1] = 4
    head[0x202:0x206] = b"HdrS"
    struct.pack_into("<H", head, 0x20E, 0x300)
    struct.pack_into("<II", head, 0x248, 64, len(payload))
    text = f"{release} (a@b) #1\0".encode()
    head[0x500 : 0x500 + len(text)] = text
    return bytes(head) + bytes(64) + payload + bytes(100)


def module(depends: str) -> bytes:
    """An ELF file with a .modinfo section."""
    info = f"license=GPL\0depends={depends}\0name=x\0".encode()
    names = b"\0.modinfo\0.shstrtab\0"
    section = struct.Struct("<IIQQQQ24x")
    head = b"\x7fELF\x02\x01".ljust(0x28, b"\0") + struct.pack("<Q", 64) + bytes(10) + struct.pack("<HHH", 64, 3, 2)
    at = 64 + 3 * 64
    table = section.pack(0, 0, 0, 0, 0, 0) + section.pack(1, 1, 0, 0, at, len(info))
    table += section.pack(10, 3, 0, 0, at + len(info), len(names))
    return head + table + info + names


@pytest.fixture
def source(work: str) -> str:
    """A host's kernel with modules: compressed, with dashes and dependencies, one of them built in."""
    boot, modules = os.path.join(work, "boot"), os.path.join(work, "lib/modules", RELEASE)
    os.makedirs(boot)
    os.makedirs(os.path.join(modules, "kernel"))
    path = os.path.join(boot, f"vmlinuz-{RELEASE}")
    with open(path, "wb") as f:
        f.write(bzimage(elf()))
    depends = {name: "" for name in kernels.MODULES if name != "overlay"}
    depends |= {"erofs": "crc-helper", "crc_helper": "base", "base": "", "virtiofs": "fuse"}
    for name, needs in depends.items():
        stem = name.replace("_", "-") if name in ("virtio_net", "crc_helper") else name
        packed = {"erofs": (".xz", lzma.compress), "fuse": (".zst", zstandard.compress)}.get(name, ("", bytes))
        with open(os.path.join(modules, "kernel", f"{stem}.ko{packed[0]}"), "wb") as f:
            f.write(packed[1](module(needs)))
    with open(os.path.join(modules, "modules.builtin"), "w") as f:
        f.write("kernel/fs/overlayfs/overlay.ko\n")
    return path


@pytest.mark.parametrize("how", COMPRESSORS)
def test_vmlinux_comes_out_as_it_went_in(how: str) -> None:
    content = elf(12_000_000 if how == "lz4" else 300_000)  # more than one block of lz4
    assert kernel_image.vmlinux(bzimage(content, how), "k") == content


@pytest.mark.parametrize("how", COMPRESSORS)
def test_damaged_kernel_is_told(how: str) -> None:
    image = bytearray(bzimage(elf(), how))
    for at in (len(image) - 110, 2700):
        image[at] ^= 0x55
    with pytest.raises(BadInput):
        kernel_image.vmlinux(bytes(image), "k")
    with pytest.raises(BadInput):
        kernel_image.vmlinux(bytes(image[:3000]), "k")
    with pytest.raises(BadInput, match="no Linux kernel"):
        kernel_image.release(elf(), "k")


def test_kernel_is_stored_once_with_its_modules_in_order(store: Store, source: str) -> None:
    kernel = kernels.obtain(store.data.root, source)
    assert kernel.release == RELEASE
    with open(kernel.vmlinux, "rb") as f:
        assert f.read() == elf()
    order = kernels.load_order(kernel)
    assert sorted(order) == sorted(os.listdir(kernel.modules)) and "overlay.ko" not in order
    assert order.index("base.ko") < order.index("crc_helper.ko") < order.index("erofs.ko")
    with open(os.path.join(kernel.modules, "erofs.ko"), "rb") as f:
        assert f.read() == module("crc-helper")
    before = os.stat(kernel.vmlinux)
    assert kernels.obtain(store.data.root, source) == kernels.stored(store.data.root, kernel.digest) == kernel
    os.unlink(os.path.join(store.data.kernels, "current"))
    assert kernels.obtain(store.data.root, source) == kernel
    assert os.stat(kernel.vmlinux).st_ino == before.st_ino


def test_pod_keeps_its_kernel_over_an_upgrade(store: Store, source: str) -> None:
    old = kernels.obtain(store.data.root, source)
    pod = store.data.pod(PREPARED, "11111111-2222-4333-8444-555555555555")
    os.makedirs(os.path.join(pod, "stage1"))
    with open(os.path.join(pod, kernels.POD_RECORD), "w") as f:
        f.write(old.digest + "\n")
    with open(source, "wb") as f:
        f.write(bzimage(elf(400_000)))
    new = kernels.obtain(store.data.root, source)
    assert new.digest != old.digest
    assert kernels.sweep(store.data) == []
    assert kernels.stored(store.data.root, old.digest) == old
    os.unlink(os.path.join(pod, kernels.POD_RECORD))
    assert kernels.sweep(store.data, dry_run=True) == [old.digest]
    assert kernels.stored(store.data.root, old.digest) == old
    assert store.gc(0).kernels == [old.digest]
    with pytest.raises(NotFound, match="missing or damaged"):
        kernels.stored(store.data.root, old.digest)
    assert kernels.stored(store.data.root, new.digest) == new


def test_damaged_kernel_is_found_and_made_again(store: Store, source: str) -> None:
    kernel = kernels.obtain(store.data.root, source)
    assert kernels.fault(store.data, kernel.digest) is None
    os.chmod(kernel.vmlinux, 0o644)
    with open(kernel.vmlinux, "r+b") as f:
        f.seek(500)
        f.write(b"damage")
    assert "altered" in str(kernels.fault(store.data, kernel.digest))
    os.truncate(kernel.vmlinux, 100)
    with pytest.raises(NotFound):
        kernels.stored(store.data.root, kernel.digest)
    assert kernels.obtain(store.data.root, source) == kernel
    assert kernels.fault(store.data, kernel.digest) is None


@pytest.mark.parametrize("point", ["kernel:making", "kernel:made", "kernel:renamed"])
def test_killed_maker_leaves_what_gc_or_the_next_one_clears(store: Store, source: str, point: str) -> None:
    command = [sys.executable, "-c", KILLED, store.data.root, source, point]
    assert subprocess.run(command).returncode == -signal.SIGKILL
    assert os.listdir(store.data.kernels)
    kernels.sweep(store.data)
    assert os.listdir(store.data.kernels) == []
    subprocess.run(command)
    kernel = kernels.obtain(store.data.root, source)
    assert sorted(os.listdir(store.data.kernels)) == ["current", kernel.digest.replace(":", "-")]


def test_what_is_missing_is_named(store: Store, source: str, work: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BadInput, match="can't be read"):
        kernels.obtain(store.data.root, os.path.join(work, "no"))
    modules = os.path.join(work, "lib/modules", RELEASE)
    os.unlink(os.path.join(modules, "kernel/virtio_blk.ko"))
    with pytest.raises(HostLacks, match="no module virtio_blk"):
        kernels.obtain(store.data.root, source)
    os.rename(modules, modules + "-x")
    with pytest.raises(HostLacks, match="no modules of kernel"):
        kernels.obtain(store.data.root, source)
    monkeypatch.setattr(kernels, "PLACES", ((os.path.join(work, "none"), work),))
    with pytest.raises(HostLacks, match="no kernel") as caught:
        kernels.obtain(store.data.root)
    assert "linux-image-cloud-amd64" in str(caught.value.hint)


def test_newest_kernel_that_has_modules_is_taken(
    store: Store, source: str, work: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for release in ("6.1.0-10-test", "6.1.0-9-test", "6.1.0-20-bare"):
        with open(os.path.join(work, "boot", f"vmlinuz-{release}"), "wb") as f:
            f.write(bzimage(elf(), release=release))
        if release.endswith("test"):
            os.symlink(RELEASE, os.path.join(work, "lib/modules", release))
    monkeypatch.setattr(kernels, "PLACES", ((os.path.join(work, "boot"), os.path.join(work, "lib/modules")),))
    assert kernels.obtain(store.data.root).release == "6.1.0-10-test"
