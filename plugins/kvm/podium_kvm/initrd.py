"""The initial file system of a guest: cpio archives in the kernel's "newc" format (initramfs-buffer-format)."""

from __future__ import annotations

import os
import stat
from itertools import chain

from podium.linux.limits import weight
from podium.net.files import hostname
from podium.sandbox import paths
from podium.types import App, Isolators, Pod
from podium_kvm import boot, helpers, program, sharing
from podium_kvm.shell import quoted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import BinaryIO

_SCRIPT, _MODULES = "guest", "modules"


def archive(entries: Iterable[tuple[str, int, bytes]]) -> bytes:
    """A cpio archive of (path without leading slash, mode with type, content)."""
    return b"".join(_parts(entries))


def _parts(entries: Iterable[tuple[str, int, bytes]]) -> Iterator[bytes]:
    for number, (path, mode, content) in enumerate(chain(entries, [("TRAILER!!!", 0, b"")]), start=1):
        name = path.encode() + b"\0"
        fields = (number, mode, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(name), 0)
        head = b"070701" + b"".join(b"%08X" % field for field in fields) + name
        yield head + bytes(-len(head) % 4)
        yield content
        yield bytes(-len(content) % 4)


def write(f: BinaryIO, pod: Pod, images: dict[str, str], busybox: str, modules: str, order: list[str]) -> None:
    """Write what a pod's guest boots from, but for what a run adds.

    Args:
        f: file.
        pod: the pod.
        images: image id → serial of the disk that carries it.
        busybox: path of a static one.
        modules: folder of the modules.
        order: names of their files, dependencies first.
    """
    f.writelines(_parts(chain(_tools(busybox, modules, order), _of_pod(pod, images, order))))


def _tools(busybox: str, modules: str, order: list[str]) -> Iterator[tuple[str, int, bytes]]:
    """One file after the other is read: together they are some megabytes."""
    for folder in _FOLDERS:
        yield folder, stat.S_IFDIR | 0o755, b""
    yield "bin/busybox", stat.S_IFREG | 0o755, _read(busybox)
    for applet in _APPLETS:
        yield f"bin/{applet}", stat.S_IFLNK | 0o777, b"busybox"
    yield "bin/load", stat.S_IFREG | 0o755, helpers.loader(program.CTL_FD)
    yield _SCRIPT, stat.S_IFREG | 0o755, _read(os.path.join(os.path.dirname(__file__), "guest", "init"))
    for name in order:
        yield f"{_MODULES}/{name}", stat.S_IFREG | 0o644, _read(os.path.join(modules, name))


# What guest/init calls.
_APPLETS = (
    *("chroot", "dirname", "insmod", "ip", "kill", "mkdir", "mkfifo", "mount", "poweroff", "readlink"),
    *("rm", "sh", "sleep", "stty", "true", "usleep"),
)
_FOLDERS = ("bin", "proc", "sys", "dev", "run", "rw", "apps", "images", _MODULES, "pod")


def _of_pod(pod: Pod, images: dict[str, str], order: list[str]) -> Iterator[tuple[str, int, bytes]]:
    """The pod's own part. /pod/setup and /pod/start are what the script reads before and after what a run adds."""
    loaded = [f"/{_MODULES}/{name}" for name in order]
    roots = [_root(app, images) for app in pod.apps]
    yield "init", stat.S_IFREG | 0o755, boot.first(loaded, images.values(), roots, ("/bin/sh", f"/{_SCRIPT}"))
    for serial in images.values():
        yield f"images/{serial}", stat.S_IFDIR | 0o755, b""
    name = quoted(hostname(pod))
    lines = [f"echo {name} >/proc/sys/kernel/hostname || fail 'the host name can not be set'"]
    for owner, iso in ((".", pod.isolators), *((app.name, app.isolators) for app in pod.apps)):
        lines += [f"limit {owner} {file} {quoted(value)}" for file, value in limits(iso)]
    yield "pod/setup", stat.S_IFREG | 0o600, script(lines)
    last = sharing.script(pod)
    last += [f"parameter {paths.sysctl_file(name)} {quoted(value)}" for name, value in paths.sysctls(pod).items()]
    for app in pod.apps:
        for kind, found in (("fixed", app.isolators.readonly_paths), ("masked", app.isolators.masked_paths)):
            last += [f"{kind} {app.name} {quoted(path)}" for path in found]
    told = [app for app in pod.apps if app.notify]
    last += [f"notified {app.name}" for app in told]
    last += [f"sealed {app.name}" for app in pod.apps if app.readonly_rootfs]
    last += [f"agent {app.name} {app.name} app 4>&- 5<&- &" for app in pod.apps]
    yield "pod/start", stat.S_IFREG | 0o600, script(last)
    for app in told:
        yield f"pod/listen-{app.name}", stat.S_IFREG | 0o700, helpers.listener(f"/apps/{app.name}")


def _root(app: App, images: dict[str, str]) -> boot.Root:
    made = os.stat(app.rootfs)
    image = images[app.image_id]
    return boot.Root(app=app.name, image=image, mode=made.st_mode & 0o7777, uid=made.st_uid, gid=made.st_gid)


def script(lines: Iterable[str]) -> bytes:
    """The text of a file that init reads."""
    return "".join(f"{line}\n" for line in lines).encode("utf-8", "surrogateescape")


def limits(iso: Isolators) -> list[tuple[str, str]]:
    """Limits as files of a cgroup in the guest (v2; see the kernel's cgroup-v2.rst) and their values."""
    shares = iso.cpu_shares
    if shares is None and iso.cpu_request is not None:
        shares = max(2, iso.cpu_request * 1024 // 1000)
    wanted = {
        "memory.max": iso.memory_limit,
        "memory.low": iso.memory_request,
        "cpu.max": None if iso.cpu_limit is None else f"{iso.cpu_limit * 100} 100000",
        "cpu.weight": None if shares is None else weight(shares),
        "pids.max": iso.pids,
    }
    return [(file, str(value)) for file, value in wanted.items() if value is not None]


def _read(path: str) -> bytes:
    with open(path, "rb") as f:
        return f.read()
