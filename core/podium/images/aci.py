"""An ACI: a tar, perhaps compressed, of `manifest` and `rootfs/` (appc aci.md)."""

from __future__ import annotations

import hashlib
import tarfile
from typing import IO

from podium.appc.image_manifest import ImageManifest, parse_image
from podium.appc.jsonread import MAX_BYTES
from podium.clock import rfc3339
from podium.errors import BadInput
from podium.images.importing import split_name
from podium.store import blobs
from podium.store.image import PREFIX, Blob, Image
from podium.store.store import Store
from podium.store.trees import tree_id
from podium.store.layers import decompress

_CHUNK = 1 << 20


def import_aci(store: Store, path: str, name: str | None) -> Image:
    """Store an ACI; its id is the sha256 of the archive without compression.

    Raises:
        BadInput: it has no manifest or rootfs, or the manifest breaks the specification's rules.
    """
    manifest = _manifest(path)
    if manifest.dependencies:
        raise BadInput(
            f"{path} depends on other images ({', '.join(d.image_name for d in manifest.dependencies)}), "
            "which this podium does not render",
            subject=path,
        )
    with open(path, "rb") as f:
        identity = _digest(decompress(f))
    with open(path, "rb") as f:
        digest, size = blobs.put(store.data, f)
    version = manifest.labels.get("version", "latest")
    text, tag = split_name(name) if name else (manifest.name, version)
    return Image(
        id=PREFIX + identity,
        name=text,
        tags=(tag,),
        format="aci",
        manifest=manifest.to_json(),
        blobs=(Blob(digest, size, "aci", "application/vnd.appc.aci"),),
        tree=tree_id(identity),
        tree_size=0,
        created=manifest.annotations.get("created"),
        imported=rfc3339(),
        arch=manifest.labels.get("arch"),
        os=manifest.labels.get("os"),
    )


def _manifest(path: str) -> ImageManifest:
    try:
        with open(path, "rb") as f, tarfile.open(fileobj=decompress(f), mode="r|", errors="surrogateescape") as tar:
            for member in tar:
                if member.name.removeprefix("./") == "manifest" and member.isreg():
                    content = tar.extractfile(member)
                    assert content is not None
                    return parse_image(content.read(MAX_BYTES + 1))
    except (tarfile.TarError, EOFError, OSError, ValueError) as e:
        raise BadInput(f"{path} is no ACI: {e}", subject=path) from None
    raise BadInput(f"{path} is no ACI: it has no file 'manifest' beside rootfs/", subject=path)


def _digest(f: IO[bytes]) -> str:
    sha = hashlib.sha256()
    while chunk := f.read(_CHUNK):
        sha.update(chunk)
    return sha.hexdigest()
