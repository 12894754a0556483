"""Volumes in an app's rootfs, and the stage1's own mounts there.

Every target is resolved inside the rootfs (openat2) and mounted on the very file that was found: what the image, or an
app that runs already, puts in the way can only redirect a mount to another place in the same rootfs.
"""

from __future__ import annotations

import os

from podium.errors import BadInput
from podium.linux import mount
from podium.linux.resolve import ensure_mountpoint
from podium.sandbox import rootfs
from podium.types import App, Pod, Volume

_VOLUMES = "volumes"


def mount_volumes(pod: Pod, app: App, root: int) -> None:
    """Mount an app's volumes, shallow targets first; before that, make its rootfs read-only if that is asked for.

    Args:
        pod: the pod; its empty volumes live under its stage1/ folder.
        app: the app.
        root: descriptor of its rootfs, in the caller's mount namespace.

    Raises:
        BadInput: a host volume's source is not there.
    """
    if app.readonly_rootfs:
        for wanted in app.mounts:  # what can't be made any more once it is read-only
            os.close(ensure_mountpoint(root, wanted.target, os.path.isdir(source_of(pod, pod.volumes[wanted.volume]))))
        rootfs.make_read_only(rootfs.path(pod, app))
    for wanted in sorted(app.mounts, key=lambda m: m.target.count("/")):
        volume = pod.volumes[wanted.volume]
        source = source_of(pod, volume)
        target = ensure_mountpoint(root, wanted.target, os.path.isdir(source))
        try:
            read_only = volume.read_only or wanted.read_only
            mount.bind(source, target, recursive=volume.recursive, read_only=read_only)
        finally:
            os.close(target)


def source_of(pod: Pod, volume: Volume) -> str:
    """Path of what is bound into the apps.

    Raises:
        BadInput: a host volume's source is not there.
    """
    if volume.kind != "host":
        return os.path.join(pod.stage1_dir, _VOLUMES, volume.name)
    assert volume.source is not None
    if not os.path.exists(volume.source):
        raise BadInput(
            f"volume {volume.name!r}: {volume.source} does not exist on the host",
            hint="make it, or correct source=",
            subject=volume.name,
        )
    return volume.source


def check_sources(pod: Pod) -> None:
    """Refuse at prepare what a run would refuse. Raises BadInput."""
    for volume in pod.volumes.values():
        source_of(pod, volume)


def make_volumes(pod: Pod, ids: int = 0) -> None:
    """Make the pod's empty volumes, and mount its tmpfs ones, in the caller's mount namespace.

    Args:
        pod: the pod.
        ids: base of the pod's range of ids, to which the volumes' owners belong.
    """
    for volume in pod.volumes.values():
        if volume.kind == "host":
            continue
        path = source_of(pod, volume)
        os.makedirs(path, mode=0o700, exist_ok=True)
        if volume.kind == "tmpfs":
            size = "" if volume.size is None else f",size={volume.size}"
            options = f"mode={volume.mode:o},uid={ids + volume.uid},gid={ids + volume.gid}{size}"
            mount.mount("tmpfs", path, "tmpfs", mount.MS_NOSUID | mount.MS_NODEV, options)
        else:
            os.chown(path, ids + volume.uid, ids + volume.gid)
            os.chmod(path, volume.mode)
