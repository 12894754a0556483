"""An image configuration, OCI's or docker's, as an image of the store."""

from __future__ import annotations

import hashlib
from typing import Any

from podium.appc.names import sanitize_identifier
from podium.appc.oci import convert_config
from podium.clock import rfc3339
from podium.errors import BadInput
from podium.images.job import digits_of
from podium.store.image import PREFIX, Blob, Image
from podium.store.trees import tree_id


def layer_digests(config: dict[str, Any], layers: int, path: str) -> tuple[str, ...]:
    """The digests of the layers without compression, as the configuration has them.

    Raises:
        BadInput: they are none, or not as many as there are layers.
    """
    rootfs = config.get("rootfs")
    diff_ids = rootfs.get("diff_ids") if isinstance(rootfs, dict) else None
    diff_ids = [] if diff_ids is None and layers == 0 else diff_ids
    if not isinstance(diff_ids, list) or len(diff_ids) != layers:
        count = len(diff_ids) if isinstance(diff_ids, list) else "no"
        raise BadInput(f"{path}: the configuration names {count} layers, the manifest {layers}", subject=path)
    return tuple(PREFIX + digits_of(d, f"{path}: a layer of the configuration") for d in diff_ids)


def from_config(
    config: dict[str, Any],
    raw: bytes,
    names: tuple[str, str],
    kind: str,
    blobs: list[Blob],
    diff_ids: tuple[str, ...],
    path: str,
) -> Image:
    """The image of a configuration; its id is the digest of the configuration's bytes.

    Args:
        config: the configuration.
        raw: its bytes.
        names: the image's name and tag.
        kind: its format.
        blobs: what it is made of.
        diff_ids: see `layer_digests`.
        path: where it comes from, for errors.

    Raises:
        BadInput: the configuration is not as it should be.
    """
    digits = hashlib.sha256(raw).hexdigest()
    try:
        manifest = convert_config(config, name=sanitize_identifier(names[0]), labels={"version": names[1]})
    except BadInput as e:
        raise BadInput(f"{path}: the configuration: {e.message}", hint=e.hint, subject=path) from None
    return Image(
        id=PREFIX + digits,
        name=names[0],
        tags=(names[1],),
        format=kind,
        manifest=manifest.to_json(),
        blobs=tuple(blobs),
        tree=tree_id(digits),
        tree_size=0,
        created=manifest.annotations.get("created"),
        imported=rfc3339(),
        arch=manifest.labels.get("arch"),
        os=manifest.labels.get("os"),
        diff_ids=diff_ids,
    )
