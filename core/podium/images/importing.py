"""Import an image: find out what a path is, and hand it to its importer."""

from __future__ import annotations

import json
import os
import tarfile
from collections.abc import Callable, Sequence
from typing import IO, Any

from podium.errors import BadInput
from podium.store.image import Image
from podium.store.store import Store
from podium.store.layers import decompress
from podium.trace import trace

FORMATS = ("aci", "oci", "docker-archive", "rootfs")


def import_path(
    store: Store,
    path: str,
    *,
    name: str | None = None,
    exec: Sequence[str] | None = None,
    format: str | None = None,
    platform: str | None = None,
    progress: Callable[..., None] | None = None,
) -> Image:
    """Import what is at `path`, and render its tree.

    Args:
        store: where.
        path: an ACI; an OCI layout, folder or archive; a `docker save` archive; a rootfs, folder or tar.
        name: name[:tag]; needed for a rootfs, else it replaces the image's own.
        exec: command of a rootfs.
        format: one of FORMATS; None: found out.
        platform: os/arch[/variant] of an OCI index; None: this machine's.
        progress: called with the bytes done and their number.

    Raises:
        BadInput: it is not what it has to be; says what was expected and found.
    """
    from podium.images import aci, oci, rootfs

    if not os.path.exists(path):
        raise BadInput(f"{path} does not exist", subject=path)
    kind = format or detect(path)
    if kind == "rootfs":
        if not name:
            raise BadInput(
                f"{path} is a rootfs, which has no name of its own", hint="add --name NAME[:TAG]", subject=path
            )
        image = rootfs.import_rootfs(store, path, name, exec)
    elif kind == "aci":
        image = aci.import_aci(store, path, name)
    elif kind in ("oci", "docker-archive"):
        image = oci.import_oci(store, path, name, platform)
    else:
        raise BadInput(f"{kind!r} is no image format", hint=f"formats: {', '.join(FORMATS)}", subject=path)
    trace("import:blobs")
    from podium.store.trees import render

    size = render(store.data, image, store.limits)
    added = store.add(image._replace(tree_size=size))
    trace("import:recorded")
    return added


def detect(path: str) -> str:
    """The format of what is at `path`, by what is in it.

    Raises:
        BadInput: it is none that podium knows.
    """
    if os.path.isdir(path):
        return "oci" if os.path.exists(os.path.join(path, "oci-layout")) else "rootfs"
    try:
        with open(path, "rb") as f, tarfile.open(fileobj=decompress(f), mode="r|", errors="surrogateescape") as tar:
            names = []
            for member in tar:
                first = member.name.removeprefix("./").rstrip("/")
                names.append(first)
                if first == "oci-layout":
                    return "oci"
                if first == "manifest.json":
                    return "docker-archive"
                if first == "manifest" and member.isreg():
                    return "aci"
                if len(names) > 64 and not any(n.startswith("blobs") or n == "rootfs" for n in names):
                    return "rootfs"
    except (tarfile.TarError, OSError, EOFError, ValueError) as e:
        raise BadInput(
            f"{path} is no image: expected an OCI layout, an ACI, a docker archive or a tar of a rootfs ({e})",
            subject=path,
        ) from None
    if any(n.partition("/")[0] in ("bin", "usr", "etc", "sbin", "lib") for n in names):
        return "rootfs"
    raise BadInput(
        f"{path} is an archive, but of no known format (it begins with {', '.join(names[:3]) or 'nothing'})",
        hint="give --format rootfs --name NAME if it is a rootfs",
        subject=path,
    )


def split_name(name: str) -> tuple[str, str]:
    """NAME[:TAG] as name and tag (`latest`). Raises BadInput."""
    text, _, tag = name.rpartition(":") if ":" in name.rpartition("/")[2] else (name, "", "latest")
    if not text or not tag or any(c.isspace() or not c.isprintable() for c in name):
        raise BadInput(f"{name!r} is no image name", hint="write NAME or NAME:TAG", subject=name)
    return text, tag


def load_json(f: IO[bytes], what: str) -> Any:
    """A small JSON file of an image. Raises BadInput."""
    from podium.appc.jsonread import MAX_BYTES, loads

    data = f.read(MAX_BYTES + 1)
    value = loads(data, what)
    if not isinstance(value, dict | list):
        raise BadInput(f"{what} is no JSON object: {json.dumps(value)[:80]}")
    return value
