"""An app's writable rootfs: an overlay over its image's tree, or a copy where the file system carries none."""

from __future__ import annotations

import os

from podium.linux import mount, overlay
from podium.linux.files import write_atomic
from podium.linux.procs import boot_id
from podium.records import read_bytes
from podium.types import App, Pod


def folder(pod: Pod, app: App) -> str:
    """What is kept for an app's rootfs: upper/, work/ and the mount point rootfs/, or a copied rootfs/."""
    return os.path.join(pod.stage1_dir, "rootfs", app.name)


def path(pod: Pod, app: App) -> str:
    """The app's rootfs, once `assemble` was called in the same mount namespace."""
    return os.path.join(folder(pod, app), "rootfs")


def prepare(pod: Pod, app: App) -> bool:
    """Make what `assemble` needs; returns whether an overlay will be used (else the tree was copied)."""
    base = folder(pod, app)
    os.makedirs(base, mode=0o700, exist_ok=True)
    if _supports_overlay(pod, base):
        for name in ("upper", "work", "rootfs"):
            os.makedirs(os.path.join(base, name), mode=0o755, exist_ok=True)
        # The root's own owner and mode are the upper folder's.
        origin = os.stat(app.rootfs)
        os.chown(os.path.join(base, "upper"), origin.st_uid, origin.st_gid)
        os.chmod(os.path.join(base, "upper"), origin.st_mode & 0o7777)
        return True
    from podium.linux.copying import copy_tree

    copy_tree(app.rootfs, os.path.join(base, "rootfs"))
    return False


def _supports_overlay(pod: Pod, base: str) -> bool:
    """Whether the data directory's file system carries an overlay: tried once in a boot, since trying takes 6 ms."""
    cache = os.path.join(pod.data_root, "cache", "overlay")
    known = f"{os.stat(base).st_dev} {boot_id()} "
    try:
        answer = read_bytes(cache).decode()
    except (FileNotFoundError, UnicodeDecodeError):
        answer = ""
    if not answer.startswith(known):
        answer = known + ("yes" if overlay.supports_overlay(base) else "no")
        write_atomic(cache, answer.encode(), durable=False)
    return answer.endswith("yes")


def assemble(pod: Pod, app: App, ids: int = 0) -> str:
    """Mount the app's rootfs in the caller's (private) mount namespace; returns its path.

    Whatever device nodes the image has: those of /dev are the stage1's business, and no other can be opened.

    Args:
        pod: the pod.
        app: the app.
        ids: base of the pod's range of ids, by which its files' owners are raised (`podium.sandbox.idrange`).

    The overlay is volatile: else the kernel would write the whole file system out when the pod ends (and it does not
    matter to a pod, which runs once, what a power failure leaves of its rootfs). See docs/adr/0004-volatile-overlay.md.
    """
    base = folder(pod, app)
    target = path(pod, app)
    upper = os.path.join(base, "upper")
    if os.path.isdir(upper):
        lower = app.rootfs if ids == 0 else _mapped(app, base, upper, ids)
        overlay.mount_overlay(target, [lower], upper, os.path.join(base, "work"), volatile=True)
    else:
        mount.bind(target, target, recursive=True)  # a mount of its own, to carry flags and other mounts
        _remount(target, 0)
    return target


def _mapped(app: App, base: str, upper: str, ids: int) -> str:
    """The tree as seen by the pod's range: an overlay can't be mapped, its lower folder can; the upper one is owned."""
    origin = os.stat(app.rootfs)
    os.chown(upper, ids + origin.st_uid, ids + origin.st_gid)
    return _bind_mapped(app.rootfs, os.path.join(base, "lower"), base=ids, inside=0)


def _bind_mapped(source: str, target: str, base: int, inside: int) -> str:
    from podium.linux.idmap import bind_mapped, user_namespace
    from podium.sandbox.idrange import COUNT

    os.makedirs(target, mode=0o755, exist_ok=True)
    user_ns = user_namespace(base, COUNT, inside)
    try:
        bind_mapped(source, target, user_ns)
    finally:
        os.close(user_ns)
    return target


def assemble_ended(pod: Pod, app: App) -> str:
    """Like `assemble`, for a pod that has ended: nothing can be written."""
    target = path(pod, app)
    upper = os.path.join(folder(pod, app), "upper")
    if os.path.isdir(upper):
        ids = os.stat(upper).st_uid - os.stat(app.rootfs).st_uid
        if ids:  # of a pod with a range of ids, whose files are shown as the pod saw them
            upper = _bind_mapped(upper, os.path.join(folder(pod, app), "lower"), base=0, inside=ids)
        overlay.mount_overlay(target, [upper, app.rootfs], None, None)
    return target


def make_read_only(target: str) -> None:
    """Let nobody write to an assembled rootfs any more; what is mounted below keeps its own flags."""
    _remount(target, mount.MS_RDONLY)


def _remount(target: str, flags: int) -> None:
    kept = os.statvfs(target).f_flag & (mount.MS_NOSUID | mount.MS_NOEXEC)  # which have the same numbers there
    mount.mount("none", target, None, mount.MS_REMOUNT | mount.MS_BIND | mount.MS_NODEV | kept | flags)
