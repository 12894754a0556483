"""OCI layouts and archives, written byte by byte so that a test can have them as wrong as it wants."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import subprocess
import tarfile
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar"


def layer_of(folder: str) -> bytes:
    """A folder's content as a layer (tar), owners, modes and links as they are, in a fixed order."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name in sorted(os.listdir(folder)):
            tar.add(os.path.join(folder, name), name)
    return buffer.getvalue()


def layer(entries: Iterable[tuple[str, bytes | None]], **attributes: Any) -> bytes:
    """A layer of files (name, content) and folders (name, None); `attributes` are set on every TarInfo."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name, content in entries:
            info = tarfile.TarInfo(name)
            info.mode = 0o755 if content is None else 0o644
            info.type = tarfile.DIRTYPE if content is None else tarfile.REGTYPE
            info.size = len(content or b"")
            for attribute, value in attributes.items():
                setattr(info, attribute, value)
            tar.addfile(info, io.BytesIO(content or b""))
    return buffer.getvalue()


def config(layers: Sequence[bytes], run: Mapping[str, Any]) -> dict[str, Any]:
    """An image configuration; `run` is its `config` member (Cmd, Entrypoint, Env, User, WorkingDir …)."""
    return {
        "architecture": "amd64",
        "os": "linux",
        "created": "2024-01-01T00:00:00Z",
        "config": dict(run),
        "rootfs": {"type": "layers", "diff_ids": ["sha256:" + hashlib.sha256(data).hexdigest() for data in layers]},
        "history": [{"created_by": "test"} for _ in layers],
    }


def write_layout(
    folder: str,
    layers: Sequence[bytes],
    run: Mapping[str, Any],
    *,
    tag: str = "latest",
    compress: bool | Literal["zstd"] = True,
    alter: Mapping[str, Any] | None = None,
) -> str:
    """Write an OCI layout; returns the digest of its manifest (`sha256:…`).

    Args:
        folder: made if it is not there.
        layers: uncompressed tars, lowest first.
        run: see `config`.
        tag: the reference's name.
        compress: gzip the layers, or have the zstd program do it.
        alter: members put over the manifest's, to make it wrong.
    """
    blobs = os.path.join(folder, "blobs", "sha256")
    os.makedirs(blobs, exist_ok=True)

    def blob(media: str, data: bytes) -> dict[str, Any]:
        digest = hashlib.sha256(data).hexdigest()
        with open(os.path.join(blobs, digest), "wb") as f:
            f.write(data)
        return {"mediaType": media, "digest": "sha256:" + digest, "size": len(data)}

    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": blob(CONFIG, json.dumps(config(layers, run)).encode()),
        "layers": [blob(*_packed(data, compress)) for data in layers],
        **(alter or {}),
    }
    described = blob(MANIFEST, json.dumps(manifest).encode())
    described["annotations"] = {"org.opencontainers.image.ref.name": tag}
    index = {"schemaVersion": 2, "manifests": [described]}
    for name, content in (("oci-layout", {"imageLayoutVersion": "1.0.0"}), ("index.json", index)):
        with open(os.path.join(folder, name), "w", encoding="utf-8") as f:
            json.dump(content, f)
    return str(described["digest"])


def _packed(data: bytes, compress: bool | Literal["zstd"]) -> tuple[str, bytes]:
    """A layer's media type and bytes."""
    if compress == "zstd":
        done = subprocess.run(["zstd", "--quiet", "--stdout"], input=data, capture_output=True, check=True)
        return LAYER + "+zstd", done.stdout
    return (LAYER + "+gzip", gzip.compress(data, 1, mtime=0)) if compress else (LAYER, data)


def archive(layout: str, path: str) -> str:
    """Pack a layout into an OCI archive at `path`, which is returned."""
    with tarfile.open(path, "w") as tar:
        for name in sorted(os.listdir(layout)):
            tar.add(os.path.join(layout, name), name)
    return path


def write_docker_archive(path: str, layers: Sequence[bytes], run: Mapping[str, Any]) -> str:
    """An archive as `docker save` writes it, without names; returns `path`."""
    described = json.dumps(config(layers, run)).encode()
    names = [f"{hashlib.sha256(data).hexdigest()}/layer.tar" for data in layers]
    named = f"{hashlib.sha256(described).hexdigest()}.json"
    manifest = json.dumps([{"Config": named, "RepoTags": [], "Layers": names}]).encode()
    with tarfile.open(path, "w") as tar:
        for name, data in [*zip(names, layers, strict=True), (named, described), ("manifest.json", manifest)]:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path
