"""The initial file system of a guest: cpio archives in the kernel's "newc" format (initramfs-buffer-format)."""

from __future__ import annotations

import os
import shlex
import stat
from collections.abc import Iterable

from podium.linux.limits import weight
from podium.net.files import hostname
from podium.sandbox import paths
from podium.types import Isolators, Pod
from podium_kvm import program, sharing

_GUEST = os.path.join(os.path.dirname(__file__), "guest")


def archive(entries: Iterable[tuple[str, int, bytes]]) -> bytes:
    """A cpio archive of (path without leading slash, mode with type, content)."""
    out = bytearray()
    for number, (path, mode, content) in enumerate([*entries, ("TRAILER!!!", 0, b"")], start=1):
        name = path.encode() + b"\0"
        fields = (number, mode, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(name), 0)
        out += b"070701" + b"".join(b"%08X" % field for field in fields) + name
        out += bytes(-len(out) % 4) + content
        out += bytes(-len(out) % 4)
    return bytes(out)


def base(busybox: str, modules: str, order: list[str]) -> bytes:
    """What all guests of a kernel share: busybox, the modules in their order, the scripts.

    Args:
        busybox: path of a static one.
        modules: folder of the modules.
        order: names of their files, dependencies first.
    """
    entries = [(folder, stat.S_IFDIR | 0o755, b"") for folder in _FOLDERS]
    entries.append(("bin/busybox", stat.S_IFREG | 0o755, _read(busybox)))
    entries += [(f"bin/{applet}", stat.S_IFLNK | 0o777, b"busybox") for applet in _APPLETS]
    entries.append(("init", stat.S_IFREG | 0o755, _read(os.path.join(_GUEST, "init"))))
    entries.append(("modules/order", stat.S_IFREG | 0o644, "".join(f"{name}\n" for name in order).encode()))
    entries += [(f"modules/{name}", stat.S_IFREG | 0o644, _read(os.path.join(modules, name))) for name in order]
    return archive(entries)


# What guest/init calls.
_APPLETS = (
    *(
        "cat",
        "chmod",
        "chown",
        "chroot",
        "dirname",
        "head",
        "hexdump",
        "hostname",
        "insmod",
        "ip",
        "kill",
        "ln",
        "mkdir",
        "mkfifo",
        "mknod",
    ),
    *("mount", "poweroff", "readlink", "rm", "sh", "sleep", "stty", "true", "uname", "usleep"),
)
_FOLDERS = ("bin", "proc", "sys", "dev", "run", "rw", "apps", "images", "modules", "pod")


def of_pod(pod: Pod, images: dict[str, str]) -> bytes:
    """The pod's own part: /pod/setup and /pod/start, which init reads before and after what a run adds.

    Args:
        pod: the pod.
        images: image id → serial of the disk that carries it.
    """
    lines = [f"hostname {hostname(pod)} || fail 'the host name can not be set'"]
    lines += [f"image {serial}" for serial in images.values()]
    lines += [f"limit . {file} {shlex.quote(value)}" for file, value in limits(pod.isolators)]
    for app in pod.apps:
        made = os.stat(app.rootfs)
        lines.append(f"root {app.name} {images[app.image_id]} {made.st_mode & 0o7777:o} {made.st_uid} {made.st_gid}")
        lines += [f"limit {app.name} {file} {shlex.quote(value)}" for file, value in limits(app.isolators)]
    last = sharing.script(pod)
    last += [f"parameter {paths.sysctl_file(name)} {shlex.quote(value)}" for name, value in paths.sysctls(pod).items()]
    for app in pod.apps:
        for kind, found in (("fixed", app.isolators.readonly_paths), ("masked", app.isolators.masked_paths)):
            last += [f"{kind} {app.name} {shlex.quote(path)}" for path in found]
    told = [app for app in pod.apps if app.notify]
    last += [f"notified {app.name}" for app in told]
    last += [f"sealed {app.name}" for app in pod.apps if app.readonly_rootfs]
    last += [f"agent {app.name} {app.name} app 4>&- 5<&- &" for app in pod.apps]
    scripts = {"pod/setup": lines, "pod/start": last}
    entries = [(path, stat.S_IFREG | 0o600, script(lines)) for path, lines in scripts.items()]
    for app in pod.apps:  # which `step` would have to make, in processes of the guest that cost milliseconds
        entries += [(f"run/{app.name}.{stream}", stat.S_IFIFO | 0o600, b"") for stream in ("in", "out", "err")]
        entries.append((f"run/{app.name}.program", stat.S_IFREG | 0o700, b""))
    entries += [(f"pod/listen-{app.name}", stat.S_IFREG | 0o700, program.listener(f"/apps/{app.name}")) for app in told]
    return archive(entries)


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
