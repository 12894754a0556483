"""Import an image: find out what a path is, keep its blobs, render its tree, write its record.

All is made in a workspace and moved into the store when it is whole and on disk: blobs, then the tree, then the record.
So a killed import leaves a workspace, which the next import removes, and never an image that lacks something.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from podium.errors import BadInput
from podium.images.meter import Meter, Report
from podium.store import locks
from podium.store.image import Image
from podium.store.naming import split_name
from podium.store.store import Store
from podium.trace import trace

if TYPE_CHECKING:
    from podium.images.job import Job
    from podium.store.workspace import Workspace

FORMATS = ("aci", "oci", "docker-archive", "rootfs")
__all__ = ["FORMATS", "finish", "import_path", "split_name"]


def import_path(
    store: Store,
    path: str,
    *,
    name: str | None = None,
    exec: Sequence[str] | str | None = None,
    format: str | None = None,
    platform: str | None = None,
    progress: Report | None = None,
) -> Image:
    """Import what is at `path`, and render its tree. What the store has already is not read or made again.

    Args:
        store: where.
        path: an ACI; an OCI layout, folder or archive; a `docker save` archive; a rootfs, folder or tar.
        name: name[:tag]; needed for a rootfs, else it replaces the image's own.
        exec: command of a rootfs; text is split as a shell would.
        format: one of FORMATS; None: found out.
        platform: os/arch[/variant] of an OCI index; None: this machine's.
        progress: called with bytes done, bytes in all (None while that is not known) and files done.

    Raises:
        BadInput: it is not what it has to be; says what was expected and found.
        NotFound: an image that it depends on is not in the store.
    """
    from podium.images.detect import detect
    from podium.images.job import Job
    from podium.store.workspace import Workspace, sweep

    if name is not None:
        split_name(name)
    if isinstance(exec, str):
        exec = _split(exec)
    if not os.path.lexists(path):
        raise BadInput(f"{path} does not exist", subject=path)
    kind = format or detect(path, store.limits)
    if exec is not None and kind != "rootfs":
        raise BadInput(f"{path} is of format {kind}, which says itself what it runs", hint="leave --exec out")
    importer = _importer(kind, path)
    sweep(store.data)
    meter = Meter(progress, os.stat(path).st_size if os.path.isfile(path) else None)
    with locks.locked(store.data, _same_source(path)), Workspace(store.data) as workspace:
        image = importer(Job(store, workspace, path, name, exec, platform, meter.moved))
        trace("import:blobs")
        return finish(store, workspace, image, meter)


def finish(store: Store, workspace: Workspace, image: Image, meter: Meter) -> Image:
    """Render an image whose blobs are in a workspace, and move all of it into the store. Returns what was recorded."""
    from podium.store import blobs, trees

    with locks.locked(store.data, locks.work("tree", image.hex)):
        if trees.is_rendered(store.data, image.tree):
            size = int(trees.read(store.data, image.tree).get("bytes", 0))
        else:
            size = trees.render(store.data, workspace, image, store.limits, meter.unpacked)
        workspace.sync()
        trace("import:synced")
        with store.shared():
            blobs.publish(store.data, workspace)
            if os.path.isdir(os.path.join(workspace.path, "tree")):
                trees.publish(store.data, workspace, image.tree)
            added = store.add(image._replace(tree_size=size))
        trace("import:recorded")
    return added


def _importer(kind: str, path: str) -> Callable[[Job], Image]:
    if kind == "rootfs":
        from podium.images.rootfs import import_rootfs

        return import_rootfs
    if kind == "aci":
        from podium.images.aci import import_aci

        return import_aci
    if kind == "oci":
        from podium.images.oci import import_oci

        return import_oci
    if kind == "docker-archive":
        from podium.images.docker_archive import import_docker_archive

        return import_docker_archive
    raise BadInput(f"{kind!r} is no image format", hint=f"formats: {', '.join(FORMATS)}", subject=path)


def _same_source(path: str) -> str:
    """The lock that imports of one file or folder wait for each other on."""
    st = os.stat(path)
    return locks.work("import", f"{(st.st_ino * 31 + st.st_dev) % 256:02x}")


def _split(command: str) -> list[str]:
    import shlex

    try:
        words = shlex.split(command)
    except ValueError as e:
        raise BadInput(f"the command {command!r} can't be split into words: {e}", subject=command) from None
    if not words:
        raise BadInput("the command is empty", hint="--exec '/bin/sh -c …'")
    return words
