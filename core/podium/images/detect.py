"""Which format a file or folder has, by what is in it."""

from __future__ import annotations

import os
import stat
from typing import IO

from podium.errors import BadInput
from podium.images.archive import SeekingSource
from podium.store.limits import Limits
from podium.store.unpack import tar
from podium.store.unpack.streams import MAGIC_BYTES, Source, compression, decompressed

_ROOT_FOLDERS = frozenset(("bin", "boot", "dev", "etc", "home", "lib", "lib64", "opt", "proc", "root", "run", "sbin",
                           "srv", "sys", "tmp", "usr", "var"))  # fmt: skip
_ENOUGH = 256  # entries by which an image format would have shown itself
_OTHERS = {
    b"\x7fELF": "an ELF program",
    b"PK\x03\x04": "a zip archive",
    b"hsqs": "a squashfs image",
    b"{": "JSON",
    b"#!": "a script",
    b"!<arch>": "an ar archive, such as a .deb",
    b"QFI\xfb": "a qcow2 disk image",
    b"07070": "a cpio archive",
}


def detect(path: str, limits: Limits) -> str:
    """`aci`, `oci`, `docker-archive` or `rootfs`.

    Raises:
        BadInput: it is none of them; says what was expected and found.
    """
    if os.path.isdir(path):
        if os.path.isfile(os.path.join(path, "oci-layout")) or os.path.isfile(os.path.join(path, "index.json")):
            return "oci"
        return "docker-archive" if os.path.isfile(os.path.join(path, "manifest.json")) else "rootfs"
    with open_file(path) as f:
        magic = f.read(16)
        f.seek(0)
        packed = compression(magic[:MAGIC_BYTES]) != "none"
        source: Source = decompressed(f, limits) if packed else SeekingSource(f.fileno())
        try:
            return _by_names(path, source, limits)
        except BadInput as e:
            found = next((what for start, what in _OTHERS.items() if magic.startswith(start)), e.message)
            size = os.fstat(f.fileno()).st_size
            if size == 0:
                found = "an empty file"
            elif not packed and found == tar.NO_ARCHIVE:
                found = f"a file of {size} bytes that is none of these"
            raise BadInput(
                f"{path} is no image: expected an OCI layout, an ACI, a docker archive or the tar of a rootfs; "
                f"found: {found}",
                hint=e.hint,
                subject=path,
            ) from None


def open_file(path: str) -> IO[bytes]:
    """A regular file. Raises BadInput for anything else."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as e:
        raise BadInput(f"{path} can't be read: {e.strerror}", subject=path) from None
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise BadInput(f"{path} is no file and no folder", subject=path)
    return os.fdopen(fd, "rb")


def _by_names(path: str, source: Source, limits: Limits) -> str:
    names: dict[str, None] = {}
    has_manifest = docker = False
    reader = tar.Reader(source, limits)
    for entry in reader:
        name = entry.name.removeprefix("./").strip("/")
        first = name.partition("/")[0]
        names[first] = None
        if name in ("oci-layout", "index.json"):
            return "oci"
        docker |= name in ("manifest.json", "repositories")
        has_manifest |= name == "manifest" and entry.kind == tar.FILE
        if has_manifest and "rootfs" in names:
            return "aci"
        unlike_images = not docker and not has_manifest and "blobs" not in names and "rootfs" not in names
        if reader.seen > _ENOUGH and unlike_images and _ROOT_FOLDERS & names.keys():
            return "rootfs"
    if docker:
        return "docker-archive"
    if has_manifest:
        raise BadInput("an ACI without rootfs/")
    if _ROOT_FOLDERS & names.keys():
        return "rootfs"
    listed = ", ".join([n for n in names if n][:3]) or "nothing"
    raise BadInput(
        f"an archive of {listed}", hint=f"if it is a rootfs: podium image import {path} --format rootfs --name NAME"
    )
