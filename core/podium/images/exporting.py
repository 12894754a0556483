"""Images as files for others: OCI archives and ACIs; and as a folder."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import IO

from podium.appc.app import is_environment_name
from podium.appc.image_manifest import parse_image
from podium.errors import BadInput, BadUsage
from podium.images.gnutar import packed
from podium.images.meter import Meter, Report
from podium.images.ociform import INDEX_TYPE, OciImage, adopt, as_oci, path_of
from podium.linux.tree import copy_tree, remove_tree
from podium.sandbox.users import identify
from podium.store import naming
from podium.store.image import Image
from podium.store.limits import located
from podium.store.store import Store
from podium.store.unpack.streams import CHUNK, Source
from podium.store.workspace import Workspace

FORMATS = ("oci", "aci")


class _Metered:
    """Tells how much was read."""

    def __init__(self, source: Source, report: Callable[[int], None]) -> None:
        self._source, self._report = source, report

    def read(self, size: int = CHUNK, /) -> bytes:
        data = self._source.read(size)
        self._report(len(data))
        return data


def export_image(store: Store, ref: str, file: str, format: str = "oci", progress: Report | None = None) -> list[str]:
    """Write an image as a file that other programs can read.

    An image goes out as it came in where that is possible: an ACI's bytes, an OCI image's manifest, configuration and
    layers. Of what has to be converted, an OCI archive of an ACI or a rootfs has one layer, and an ACI has all layers
    flattened, and no dependencies.

    Args:
        store: where it is.
        ref: which; see `Store.resolve`.
        file: must not exist.
        format: one of FORMATS.
        progress: called with bytes done and bytes in all.

    Returns:
        What could not be said in that format, one sentence each.

    Raises:
        BadUsage: the file exists.
        BadInput: the image has what the format can't say.
        Corrupt: something of the image is missing.
        OSError: the file can't be written; nothing is left of it then.
    """
    image = store.resolve(ref)
    is_made = format == "oci" and image.format in ("aci", "rootfs")  # then it is packed first, and copied
    in_all = 2 * image.tree_size if is_made else image.size if format == "oci" else image.tree_size
    meter = Meter(progress, in_all)
    with Workspace(store.data) as workspace, _written(file) as out:
        if format == "oci":
            _write_oci(out, as_oci(store, workspace, image, report=meter.moved), workspace, _name(image, ref), meter)
            return []
        return _write_aci(store, workspace, image, out, meter)


@contextmanager
def _written(file: str) -> Iterator[IO[bytes]]:
    """A file that gets its name when it is whole."""
    if os.path.lexists(file):
        raise BadUsage(f"{file} exists already", hint="choose another name, or remove it", subject=file)
    hidden = os.path.join(os.path.dirname(file) or ".", f".{os.path.basename(file)[:200]}.{os.urandom(4).hex()}")
    try:
        out = open(hidden, "xb")  # noqa: SIM115  (closed below)
    except OSError as e:
        raise OSError(e.errno, e.strerror, file) from None
    try:
        with out:
            yield out
            out.flush()
            os.fsync(out.fileno())
        os.rename(hidden, file)
    except BaseException:
        if os.path.lexists(hidden):
            os.unlink(hidden)
        raise


def _name(image: Image, ref: str) -> str | None:
    """What the image is called in an archive: as it was asked for, else its first name. A digest is no tag."""
    name, tag = naming.split(ref)
    full = f"{name}:{naming.LATEST if tag is None else tag}"
    names = [r for r in image.references if "@" not in r]
    return full if full in names else names[0] if names else None


def _write_oci(out: IO[bytes], oci: OciImage, workspace: Workspace, name: str | None, meter: Meter) -> None:
    import tarfile

    described: dict[str, object] = {"mediaType": oci.media_type, "digest": oci.digest, "size": len(oci.manifest)}
    if name is not None:
        described["annotations"] = {"org.opencontainers.image.ref.name": name, "io.containerd.image.name": name}
    index = {"schemaVersion": 2, "mediaType": INDEX_TYPE, "manifests": [described]}
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:

        def add(path: str, source: Source, size: int) -> None:
            info = tarfile.TarInfo(path)
            info.size, info.mode = size, 0o644
            tar.addfile(info, _Metered(source, meter.moved))

        for path, document in (
            ("oci-layout", json.dumps({"imageLayoutVersion": "1.0.0"}).encode()),
            ("index.json", json.dumps(index).encode()),
            (f"blobs/sha256/{oci.digest.partition(':')[2]}", oci.manifest),
        ):
            add(path, io.BytesIO(document), len(document))
        for blob in oci.blobs:
            with open(path_of(workspace, blob), "rb") as f:
                add(f"blobs/sha256/{blob.digest.partition(':')[2]}", f, blob.size)


def _write_aci(store: Store, workspace: Workspace, image: Image, out: IO[bytes], meter: Meter) -> list[str]:
    own = next((b for b in image.blobs if b.role == "aci"), None)
    if own is not None:
        with open(path_of(workspace, adopt(store, workspace, own)), "rb") as f:
            _copy(f, out, meter)
        return []
    store.ensure_tree(image)
    with store.shared():
        store.resolve(image.id)  # it stays while its tree is read
        tree = store.data.tree(image.tree)
        manifest, notes = _strict(image, os.path.join(tree, "rootfs"))
        path = os.path.join(workspace.path, "manifest")
        with open(path, "xb") as f:
            f.write(manifest)
        os.chmod(path, 0o644)
        os.utime(path, (0, 0))
        with packed((workspace.path, ["manifest"]), (tree, ["rootfs"])) as source:
            _copy(source, out, meter)
    return notes


def _copy(source: Source, out: IO[bytes], meter: Meter) -> None:
    while chunk := source.read(CHUNK):
        out.write(chunk)
        meter.moved(len(chunk))


def _strict(image: Image, rootfs: str) -> tuple[bytes, list[str]]:
    """The manifest by the specification's rules, which are narrower than OCI's; and what had to be left out."""
    manifest, notes = parse_image(image.manifest, own=True), []
    if manifest.app is not None:
        app = manifest.app
        if not app.group:
            fd = os.open(rootfs, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                app = app._replace(group=str(identify(fd, app.user, "", ()).gid))
            finally:
                os.close(fd)
        odd = [name for name in app.environment if not is_environment_name(name)]
        notes = [f"an ACI can't have an environment variable called {name!r}: it is left out" for name in odd]
        kept = {k: v for k, v in app.environment.items() if k not in odd}
        manifest = manifest._replace(app=app._replace(environment=kept))
    data = json.dumps(manifest.to_json(), indent=1).encode()
    try:
        parse_image(data)
    except BadInput as e:
        raise located(e, f"{image.name or image.id} can't be an ACI") from None
    return data, notes


def extract_image(store: Store, ref: str, folder: str, *, rootfs_only: bool = False) -> None:
    """Copy an image into a folder: `manifest` and `rootfs/`, or the content of its rootfs alone.

    Args:
        store: where it is.
        ref: which; see `Store.resolve`.
        folder: must not exist, or be empty.
        rootfs_only: the folder itself becomes the rootfs.

    Raises:
        BadUsage: there is something at `folder`.
        OSError: it can't be written; nothing is left of it then.
    """
    folder = os.path.abspath(folder)
    if os.path.lexists(folder) and not (os.path.isdir(folder) and not os.listdir(folder)):
        raise BadUsage(f"{folder} exists and is no empty folder", hint="choose another name", subject=folder)
    image = store.resolve(ref)
    store.ensure_tree(image)
    parent, name = os.path.split(folder)
    hidden = f".{name[:200]}.{os.urandom(4).hex()}"
    made = os.path.join(parent, hidden)
    try:
        with store.shared():
            store.resolve(image.id)
            if rootfs_only:
                copy_tree(store.data.rootfs(image.tree), made)
            else:
                os.mkdir(made, 0o755)
                with open(os.path.join(made, "manifest"), "xb") as f:
                    f.write(json.dumps(image.manifest, indent=1).encode() + b"\n")
                copy_tree(store.data.rootfs(image.tree), os.path.join(made, "rootfs"))
        os.rename(made, folder)
    except BaseException:
        remove_tree(parent, hidden)
        raise
