"""An image of the store as an OCI image: a manifest, and the files of its configuration and layers.

What came as an OCI image is given back as it was, byte for byte. A docker archive keeps configuration and layers, and
gets a manifest. An ACI or a rootfs becomes one layer, made of its tree.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
from collections.abc import Callable
from typing import Any, NamedTuple

from podium.appc.image_manifest import parse_image
from podium.appc.oci import to_oci_config
from podium.errors import Corrupt
from podium.images.gnutar import packed
from podium.images.oci import CONFIG_TYPES, MANIFEST_TYPES, host_platform
from podium.store import blobs
from podium.store.image import PREFIX, Blob, Image
from podium.store.store import Store
from podium.store.unpack.streams import decompressed
from podium.store.workspace import Workspace

INDEX_TYPE = "application/vnd.oci.image.index.v1+json"
_LAYER = "application/vnd.oci.image.layer.v1.tar"
_DOCKER_LAYER = "application/vnd.docker.image.rootfs."
_ENDINGS = {"gzip": "+gzip", "zstd": "+zstd", "tar": ""}  # of a docker layer's type → of an OCI layer's


class OciImage(NamedTuple):
    """An OCI image; its files are `workspace.blobs`/<digits>.

    Attributes:
        manifest: its bytes.
        media_type: of the manifest.
        blobs: configuration and layers, each once.
    """

    manifest: bytes
    media_type: str
    blobs: list[Blob]

    @property
    def digest(self) -> str:
        """`sha256:<hex>` of the manifest."""
        return PREFIX + hashlib.sha256(self.manifest).hexdigest()


def path_of(workspace: Workspace, blob: Blob) -> str:
    """Where a blob of an `OciImage` is."""
    return os.path.join(workspace.blobs, blob.digest.removeprefix(PREFIX))


def adopt(store: Store, workspace: Workspace, blob: Blob) -> Blob:
    """Give the workspace a blob of an image, which nobody can take from it then. Raises Corrupt if it is missing."""
    if not blobs.adopt(store.data, workspace, blob.digest, blob.size):
        raise Corrupt(
            f"blob {blob.digest} is missing or damaged",
            hint="import the image again; 'podium image verify' tells more",
            subject=blob.digest,
        )
    return blob


def as_oci(
    store: Store,
    workspace: Workspace,
    image: Image,
    *,
    docker: bool = False,
    report: Callable[[int], None] | None = None,
) -> OciImage:
    """The image as an OCI image, in a workspace.

    Args:
        store: where the image is.
        workspace: where what has to be made for it is put, and links to what is there.
        image: which.
        docker: whether a manifest of docker's form may stay one, which registries take and OCI layouts don't.
        report: called with the bytes of each chunk of a layer that is made.

    Raises:
        Corrupt: a blob is missing.
        BadInput: the image has something that OCI can't say.
    """
    if image.format in ("aci", "rootfs"):
        return _from_tree(store, workspace, image, report)
    for blob in image.blobs:
        adopt(store, workspace, blob)
    (config,) = [b for b in image.blobs if b.role == "config"]
    layers = [b for b in image.blobs if b.role == "layer"]
    for blob in image.blobs:
        if blob.role == "manifest" and (docker or blob.media_type == MANIFEST_TYPES[0]):
            with open(path_of(workspace, blob), "rb") as f:
                return OciImage(f.read(), blob.media_type, [*dict.fromkeys((config, *layers))])
    fitting = [_layer(store, workspace, layer, diff_id) for layer, diff_id in zip(layers, image.diff_ids, strict=True)]
    return _with_manifest(config._replace(media_type=CONFIG_TYPES[0]), fitting)


def _layer(store: Store, workspace: Workspace, blob: Blob, diff_id: str) -> Blob:
    """A docker layer, which is unpacked where OCI does not know its compression."""
    if not blob.media_type.startswith(_DOCKER_LAYER):
        return blob
    ending = _ENDINGS.get(blob.media_type.rpartition(".")[2])
    if ending is not None:
        return blob._replace(media_type=_LAYER + ending)
    with open(path_of(workspace, blob), "rb") as f:
        source = decompressed(f, store.limits)
        digest, size = blobs.put(workspace, source, limit=store.limits.max_bytes, digest=diff_id)
    return Blob(digest, size, "layer", _LAYER)


def _from_tree(store: Store, workspace: Workspace, image: Image, report: Callable[[int], None] | None) -> OciImage:
    config = to_oci_config(parse_image(image.manifest, own=True))
    system, arch, *_ = host_platform().split("/")
    store.ensure_tree(image)
    with store.shared():
        store.resolve(image.id)
        with packed((store.data.rootfs(image.tree), ["."])) as source:
            limit = store.limits.max_apparent
            layer = Blob(*blobs.put(workspace, source, limit=limit, progress=report), "layer", _LAYER)
    whole: dict[str, Any] = {
        "os": system,
        "architecture": arch,
        **config,
        "rootfs": {"type": "layers", "diff_ids": [layer.digest]},
    }
    raw = json.dumps(whole, sort_keys=True).encode()
    made = Blob(*blobs.put(workspace, io.BytesIO(raw), limit=len(raw)), "config", CONFIG_TYPES[0])
    return _with_manifest(made, [layer])


def _with_manifest(config: Blob, layers: list[Blob]) -> OciImage:
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST_TYPES[0],
        "config": descriptor(config),
        "layers": [descriptor(layer) for layer in layers],
    }
    return OciImage(json.dumps(manifest).encode(), MANIFEST_TYPES[0], [*dict.fromkeys((config, *layers))])


def descriptor(blob: Blob) -> dict[str, Any]:
    """A blob as OCI describes it."""
    return {"mediaType": blob.media_type, "digest": blob.digest, "size": blob.size}
