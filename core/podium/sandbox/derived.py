"""erofs/<tree>.img: a rendered tree as one read-only file system image, for stage1s whose guests can't see folders.

Made once per tree, under a lock, under a temporary name, and renamed when it is whole; `erofs/<tree>.json` (sealed)
holds its digest and comes last, so that an image without it is half made. What a killed maker leaves is used by the
next one, or removed by gc. A pod keeps its tree, and the tree keeps its image.
"""

from __future__ import annotations

import os

from podium import records
from podium.errors import Corrupt, Failed, HostLacks
from podium.linux.files import fsync_dir, sha256, write_atomic
from podium.linux.lockfile import locked
from podium.paths import DataDir
from podium.trace import trace

PROGRAM = "mkfs.erofs"
_IMAGE, _RECORD, _TEMPORARY = ".img", ".json", ".part"


def tree_image(data_root: str, image_id: str, rootfs: str) -> str:
    """The path of a tree's image, which is made if it is missing, and made again if it is damaged.

    Args:
        data_root: the data directory.
        image_id: the image that the tree was rendered from, for messages.
        rootfs: the tree's rootfs; somebody refers to the tree, so it stays.

    Raises:
        HostLacks: there is no mkfs.erofs.
        Failed: mkfs.erofs failed.
        OSError: the image can't be written.
    """
    data = DataDir(data_root)
    tree = os.path.basename(os.path.dirname(os.path.normpath(rootfs)))
    path = _path(data, tree, _IMAGE)
    if _untouched(data, tree):
        return path
    with locked(lock(data, tree)):
        if fault(data, tree) is None:
            _record(data, tree, digest(path))  # it was copied or moved
        else:
            _make(data, tree, image_id, rootfs)
    return path


def rebuild(data: DataDir, tree: str, image_id: str) -> None:
    """Make a tree's image again, whatever is there; who has the old one open keeps it. Raises as `tree_image`."""
    with locked(lock(data, tree)):
        _make(data, tree, image_id, data.rootfs(tree))


def fault(data: DataDir, tree: str) -> str | None:
    """What is wrong with a tree's image, all of which is read; None if nothing is."""
    try:
        record = records.read(_path(data, tree, _RECORD), f"the record of the image of tree {tree[:12]}")
        found = digest(_path(data, tree, _IMAGE))
    except FileNotFoundError:
        return f"the image of tree {tree} is missing"
    except Corrupt as e:
        return e.message
    except OSError as e:
        return f"the image of tree {tree} can't be read: {e}"
    return None if record.get("digest") == found else f"the image of tree {tree} is altered: its digest is {found}"


def exists(data: DataDir, tree: str) -> bool:
    """Whether an image, or a part of one, was made of a tree."""
    return any(os.path.lexists(_path(data, tree, suffix)) for suffix in (_IMAGE, _RECORD))


def remove(data: DataDir, tree: str) -> int:
    """Remove what was derived from a tree; returns the bytes freed. The caller knows that nobody refers to the tree."""
    return sum(_unlink(_path(data, tree, suffix)) for suffix in (_RECORD, _IMAGE, _TEMPORARY))


def sweep(data: DataDir) -> int:
    """Remove images of trees that are gone, and what killed makers left; returns the bytes freed.

    The caller holds the store's lock alone.
    """
    freed = 0
    try:
        names = os.listdir(data.erofs)
    except FileNotFoundError:
        return 0
    for name in names:
        tree, suffix = os.path.splitext(name)
        if name.startswith(".tmp-") or not os.path.isdir(data.tree(tree)):  # of a record whose writer was killed
            freed += _unlink(os.path.join(data.erofs, name))
        elif suffix == _TEMPORARY:
            try:
                with locked(lock(data, tree), wait=False):
                    freed += _unlink(os.path.join(data.erofs, name))
            except BlockingIOError:
                continue  # its maker is at work
    return freed


def digest(path: str) -> str:
    """`sha256:<hex>` of a file."""
    return f"sha256:{sha256(path)}"


def lock(data: DataDir, tree: str) -> str:
    """Path of the lock of whoever makes a tree's image."""
    return os.path.join(data.locks, f"erofs-{tree[:2]}")


def _make(data: DataDir, tree: str, image_id: str, rootfs: str) -> None:
    import shutil
    import subprocess

    program = shutil.which(PROGRAM)
    if program is None:
        raise HostLacks(
            f"there is no {PROGRAM}, which makes the file system of image {image_id[:19]}",
            hint="apt-get install erofs-utils",
            subject=PROGRAM,
        )
    os.makedirs(data.erofs, mode=0o755, exist_ok=True)
    temporary, path = _path(data, tree, _TEMPORARY), _path(data, tree, _IMAGE)
    _unlink(temporary)
    # Compact inodes have no times of their own.
    command = [program, "--quiet", "-E", "force-inode-extended", temporary, rootfs]
    trace("erofs:making")
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace")
    if done.returncode:
        _unlink(temporary)
        said = (done.stderr.strip() or done.stdout.strip())[-400:]
        raise Failed(f"{PROGRAM} can't make the image of tree {tree[:12]}: {said}", subject=image_id)
    fd = os.open(temporary, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fchmod(fd, 0o444)
        os.fsync(fd)
    finally:
        os.close(fd)
    found = digest(temporary)
    trace("erofs:made")
    os.rename(temporary, path)
    fsync_dir(data.erofs)
    trace("erofs:renamed")
    _record(data, tree, found)
    trace("erofs:recorded")


def _record(data: DataDir, tree: str, found: str) -> None:
    stat = _stat(_path(data, tree, _IMAGE))
    record = {"erofs": 1, "tree": tree, "digest": found, "bytes": stat[1], "stat": stat}
    write_atomic(_path(data, tree, _RECORD), records.seal(record) + b"\n")


def _untouched(data: DataDir, tree: str) -> bool:
    """Whether the image is the very file that was recorded, never written since: its inode and times tell."""
    try:
        record = records.read(_path(data, tree, _RECORD), "the record of an image")
        return bool(record.get("stat") == _stat(_path(data, tree, _IMAGE)))
    except (FileNotFoundError, Corrupt):
        return False


def _stat(path: str) -> list[int]:
    found = os.stat(path, follow_symlinks=False)
    return [found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns]


def _path(data: DataDir, tree: str, suffix: str) -> str:
    return os.path.join(data.erofs, tree + suffix)


def _unlink(path: str) -> int:
    try:
        size = os.stat(path, follow_symlinks=False).st_size
        os.unlink(path)
    except FileNotFoundError:
        return 0
    return size
