"""kernels/sha256-<hex>/: guests' kernels, taken once from a distribution's, for stage1s that start machines.

    vmlinux         without compression
    modules/*.ko    what a guest needs, without compression
    kernel.json     sealed record: kernel (1), release, order (of insmod), files {name: sha256}

The name is the sha256 of the JSON (sorted keys) of `[release, {name: sha256}]`. Made under a lock in `kernels/.part`
and renamed when whole. `kernels/current` names the one that was asked for last. A pod names its own in its folder
below stage1/, and so boots it also after the host's was upgraded.
"""

from __future__ import annotations

import os

from podium import records
from podium.errors import BadInput, Corrupt, HostLacks, NotFound
from podium.linux.files import fsync_dir, write_atomic
from podium.linux.lockfile import locked
from podium.named import NamedTuple
from podium.paths import PHASES, DataDir
from podium.sandbox.derived import digest as file_digest
from podium.trace import trace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

MODULES = ("virtio_pci", "virtio_blk", "virtio_console", "erofs", "overlay", "virtio_net", "fuse", "virtiofs")
PLACES = (  # folders of kernels, and of their modules by release
    ("/usr/local/lib/podium/kernel/boot", "/usr/local/lib/podium/kernel/lib/modules"),
    ("/boot", "/lib/modules"),
)
POD_RECORD = os.path.join("stage1", "kernel")  # in a pod's folder: the digest of its kernel, and a newline
_HINT = "apt-get install linux-image-cloud-amd64, or name a kernel in the configuration"
_CURRENT, _PART, _RECORD = "current", ".part", "kernel.json"


class Kernel(NamedTuple):
    """A stored kernel: its release, `sha256:<hex>`, the path of vmlinux and the folder of its modules."""

    release: str
    digest: str
    vmlinux: str
    modules: str


def obtain(data_root: str, source: str | None = None) -> Kernel:
    """The newest kernel of the host, or `source`, stored; it is taken apart only if it was not before.

    Raises:
        HostLacks: there is no kernel, or it lacks a module.
        BadInput: it can't be read.
    """
    data = DataDir(data_root)
    path, folder = _chosen(source)
    stat = os.stat(path)
    key = [path, stat.st_ino, stat.st_size, stat.st_mtime_ns]
    os.makedirs(data.kernels, mode=0o755, exist_ok=True)
    with locked(lock(data)):
        current = _current(data)
        if current.get("source") == key:
            try:
                return stored(data_root, str(current["digest"]))
            except NotFound:
                pass  # damaged or removed: it is made again
        digest = _make(data, path, folder)
        write_atomic(os.path.join(data.kernels, _CURRENT), records.seal({"digest": digest, "source": key}) + b"\n")
    return stored(data_root, digest)


def stored(data_root: str, digest: str) -> Kernel:
    """The kernel of a pod that was prepared before. Its files' sizes are looked at; `fault` reads them.

    Raises:
        NotFound: it is not there, or not whole.
    """
    data = DataDir(data_root)
    folder = _folder(data, digest)
    try:
        record = _record(folder)
        sizes = {name: os.stat(os.path.join(folder, name)).st_size for name in record["files"]}
        whole = sizes == record["sizes"]
    except (FileNotFoundError, Corrupt, KeyError):
        whole = False
    if not whole:
        raise NotFound(f"kernel {digest[:19]} is missing or damaged", hint="prepare the pod again", subject=digest)
    return Kernel(record["release"], digest, os.path.join(folder, "vmlinux"), os.path.join(folder, "modules"))


def lock(data: DataDir) -> str:
    """Path of the lock of whoever takes kernels apart or away."""
    return os.path.join(data.locks, "kernels")


def load_order(kernel: Kernel) -> list[str]:
    """File names of the kernel's modules, each after what it depends on."""
    return [str(name) for name in _record(os.path.dirname(kernel.vmlinux))["order"]]


def fault(data: DataDir, digest: str) -> str | None:
    """What is wrong with a stored kernel, all of which is read; None if nothing is."""
    folder = _folder(data, digest)
    try:
        record = _record(folder)
        found = {name: file_digest(os.path.join(folder, name)) for name in record["files"]}
    except (OSError, KeyError) as e:
        return f"kernel {digest} can't be read: {e}"
    except Corrupt as e:
        return e.message
    if digest == _name(record["release"], found):
        return None
    return f"kernel {digest} is altered"


def sweep(data: DataDir, *, dry_run: bool = False) -> list[str]:
    """Remove the kernels that no pod names and that are not the current one; returns their digests.

    The caller holds the store's lock alone. While a pod's record can't be read, all stay.
    """
    from podium.linux.tree import remove_tree

    try:
        names = os.listdir(data.kernels)
    except FileNotFoundError:
        return []
    removed: list[str] = []
    try:
        with locked(lock(data), wait=False):
            used = _used(data)
            for name in names:
                digest = name.replace("-", ":", 1)
                unused = used is not None and name.startswith("sha256-") and digest not in used
                if unused:
                    removed.append(digest)
                if (unused or name == _PART) and not dry_run:
                    remove_tree(data.kernels, name)
                elif name.startswith(".tmp-") and not dry_run:
                    os.unlink(os.path.join(data.kernels, name))
    except BlockingIOError:
        pass  # somebody takes a kernel apart
    return removed


def _used(data: DataDir) -> set[str] | None:
    current = _current(data).get("digest")
    used = {str(current)} if current else set()
    for phase in PHASES:
        try:
            uuids = os.listdir(data.phase(phase))
        except FileNotFoundError:
            continue
        for uuid in uuids:
            try:
                with open(os.path.join(data.pod(phase, uuid), POD_RECORD), encoding="ascii") as f:
                    used.add(f.read().strip())
            except (FileNotFoundError, NotADirectoryError):
                continue  # not a pod of a stage1 that has kernels
            except (OSError, UnicodeDecodeError):
                return None
    return used


def _make(data: DataDir, path: str, folder: str) -> str:
    from podium.linux import kernel_image
    from podium.linux.tree import remove_tree

    with open(path, "rb") as f:
        image = f.read()
    release = kernel_image.release(image, path)
    files = _modules(folder, release)
    order = list(files)
    contents = {"vmlinux": kernel_image.vmlinux(image, path), **{f"modules/{n}": c for n, c in files.items()}}
    part = os.path.join(data.kernels, _PART)
    if os.path.lexists(part):
        remove_tree(data.kernels, _PART)
    os.makedirs(os.path.join(part, "modules"), mode=0o755)
    trace("kernel:making")
    for name, content in contents.items():
        write_atomic(os.path.join(part, name), content, 0o444, sync_folder=False)
    digests = {name: file_digest(os.path.join(part, name)) for name in contents}
    sizes = {name: len(content) for name, content in contents.items()}
    record = {"kernel": 1, "release": release, "order": order, "files": digests, "sizes": sizes}
    fsync_dir(os.path.join(part, "modules"))
    write_atomic(os.path.join(part, _RECORD), records.seal(record) + b"\n")
    trace("kernel:made")
    digest = _name(release, digests)
    place = _folder(data, digest)
    if os.path.lexists(place) and fault(data, digest) is None:
        remove_tree(data.kernels, _PART)
        return digest
    if os.path.lexists(place):  # damaged; machines that run have read it long since
        remove_tree(data.kernels, os.path.basename(place))
    os.rename(part, place)
    fsync_dir(data.kernels)
    trace("kernel:renamed")
    return digest


def _modules(folder: str, release: str) -> dict[str, bytes]:
    """What MODULES need, by file name, in the order of insmod; what is built into the kernel needs no file."""
    from podium.linux import kernel_image

    paths: dict[str, str] = {}
    for where, _, names in os.walk(folder):
        for name in names:
            stem, dot, rest = name.partition(".ko")
            if dot and rest in ("", ".gz", ".xz", ".zst"):
                paths[stem.replace("-", "_")] = os.path.join(where, name)
    try:
        with open(os.path.join(folder, "modules.builtin"), encoding="utf-8") as f:
            builtin = {os.path.basename(line.strip()).removesuffix(".ko").replace("-", "_") for line in f}
    except FileNotFoundError:
        builtin = set()
    found: dict[str, bytes] = {}

    def add(name: str) -> None:
        if name in builtin or f"{name}.ko" in found:
            return
        if name not in paths:
            raise HostLacks(f"kernel {release} has no module {name} in {folder}", hint=_HINT, subject=name)
        with open(paths[name], "rb") as f:
            module = kernel_image.decompress(f.read(), paths[name])
        for needed in kernel_image.modinfo(module, paths[name]).get("depends", "").split(","):
            if needed:
                add(needed.replace("-", "_"))
        found[f"{name}.ko"] = module

    for name in MODULES:
        add(name)
    return found


def _given(source: str) -> tuple[str, str]:
    from podium.linux import kernel_image

    try:
        with open(source, "rb") as f:
            release = kernel_image.release(f.read(1 << 16), source)
    except OSError as e:
        raise BadInput(f"kernel {source} can't be read: {e.strerror}", hint=_HINT, subject=source) from None
    beside = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(source))), "lib/modules")
    for place in (beside, *(modules for _, modules in PLACES)):
        if os.path.isdir(os.path.join(place, release)):
            return source, os.path.join(place, release)
    raise HostLacks(f"there are no modules of kernel {release} ({source})", hint=_HINT, subject=source)


def choose(source: str | None = None) -> str:
    """Path of the kernel that `obtain` would take: the host's newest, or `source`. Raises HostLacks, BadInput."""
    return _chosen(source)[0]


def _chosen(source: str | None) -> tuple[str, str]:
    return _given(source) if source else _find()


def _find() -> tuple[str, str]:
    for boot, _ in PLACES:
        try:
            names = [n for n in os.listdir(boot) if n.startswith("vmlinuz-")]
        except FileNotFoundError:
            continue
        for name in sorted(names, key=_natural, reverse=True):
            try:
                return _given(os.path.join(boot, name))
            except (HostLacks, BadInput):
                continue  # an older one may be whole
    looked = " and ".join(boot for boot, _ in PLACES)
    raise HostLacks(f"there is no kernel with its modules in {looked}", hint=_HINT, subject="kernel")


def _natural(name: str) -> list[tuple[bool, int, str]]:
    import re

    return [(part.isdigit(), int(part) if part.isdigit() else 0, part) for part in re.findall(r"\d+|\D+", name)]


def _name(release: str, digests: dict[str, str]) -> str:
    import hashlib
    import json

    return "sha256:" + hashlib.sha256(json.dumps([release, digests], sort_keys=True).encode()).hexdigest()


def _current(data: DataDir) -> dict[str, Any]:
    try:
        return records.read(os.path.join(data.kernels, _CURRENT), "kernels/current")
    except (FileNotFoundError, Corrupt):
        return {}


def _record(folder: str) -> dict[str, Any]:
    return records.read(os.path.join(folder, _RECORD), f"the record of kernel {os.path.basename(folder)[:19]}")


def _folder(data: DataDir, digest: str) -> str:
    return os.path.join(data.kernels, digest.replace(":", "-", 1))
