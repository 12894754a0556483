"""OCI image layouts, as a folder or an archive (OCI image-spec: image-layout.md, manifest.md, config.md)."""

from __future__ import annotations

import io
import os
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any

from podium.appc.oci import convert_config
from podium.clock import rfc3339
from podium.errors import BadInput
from podium.images.importing import load_json, split_name
from podium.store import blobs
from podium.store.image import PREFIX, Blob, Image
from podium.store.store import Store
from podium.store.trees import tree_id

_INDEX = ("application/vnd.oci.image.index.v1+json", "application/vnd.docker.distribution.manifest.list.v2+json")
_MANIFEST = ("application/vnd.oci.image.manifest.v1+json", "application/vnd.docker.distribution.manifest.v2+json")
_REF_NAME = "org.opencontainers.image.ref.name"
_FULL_NAME = "io.containerd.image.name"
_MACHINES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm", "riscv64": "riscv64"}
_MAX_NESTING = 4


class _Layout:
    """Files of a layout by name, from a folder or a tar archive."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._tar = None if os.path.isdir(path) else tarfile.open(path, errors="surrogateescape")
        self._members = (
            {} if self._tar is None else {m.name.removeprefix("./"): m for m in self._tar.getmembers() if m.isreg()}
        )

    def open(self, name: str) -> IO[bytes]:
        """Raises BadInput when there is no such file."""
        if self._tar is not None:
            member = self._members.get(name)
            content = self._tar.extractfile(member) if member is not None else None
            if content is None:
                raise BadInput(f"{self.path} is no OCI layout: it has no {name}", subject=self.path)
            return content
        try:
            return open(os.path.join(self.path, name), "rb")
        except OSError as e:
            raise BadInput(f"{self.path}: {name} can't be read: {e.strerror}", subject=self.path) from None

    def close(self) -> None:
        if self._tar is not None:
            self._tar.close()


@contextmanager
def _layout(path: str) -> Iterator[_Layout]:
    try:
        layout = _Layout(path)
    except (tarfile.TarError, EOFError) as e:
        raise BadInput(f"{path} is no archive: {e}", subject=path) from None
    try:
        yield layout
    finally:
        layout.close()


def import_oci(store: Store, path: str, name: str | None, platform: str | None) -> Image:
    """Store an image of a layout; its id is the digest of its configuration.

    Raises:
        BadInput: the layout is not what the specification says, or has no image for the platform.
    """
    with _layout(path) as layout:
        index = load_json(layout.open("index.json"), f"{path}: index.json")
        descriptor = _choose(layout, index, platform, 0)
        manifest = _object(layout, descriptor, "manifest")
        if "manifests" in manifest or not isinstance(manifest.get("layers"), list):
            raise BadInput(f"{path}: manifest {descriptor['digest']} is ambiguous: it must have layers, not manifests")
        config = _object(layout, manifest.get("config"), "config")
        stored = [_put(store, layout, manifest["config"], "config")]
        stored += [_put(store, layout, layer, "layer") for layer in manifest["layers"]]
        text, tag = split_name(name or _own_name(path, descriptor))
        converted = convert_config(config, name=text, labels={"version": tag})
    identity = stored[0].digest.removeprefix(PREFIX)
    return Image(
        id=PREFIX + identity,
        name=text,
        tags=(tag,),
        format="oci",
        manifest=converted.to_json(),
        blobs=tuple(stored),
        tree=tree_id(identity),
        tree_size=0,
        created=converted.annotations.get("created"),
        imported=rfc3339(),
        arch=converted.labels.get("arch"),
        os=converted.labels.get("os"),
    )


def _own_name(path: str, descriptor: dict[str, Any]) -> str:
    annotations = descriptor.get("annotations") or {}
    if full := annotations.get(_FULL_NAME):
        return str(full)
    stem = os.path.basename(os.path.abspath(path))
    for ending in (".gz", ".zst", ".xz", ".bz2", ".tar", ".oci"):
        stem = stem.removesuffix(ending)
    ref = str(annotations.get(_REF_NAME) or "latest")
    return ref if "/" in ref or ":" in ref else f"{stem}:{ref}"


def _descriptor(value: Any, what: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise BadInput(f"{what} is no descriptor")
    digest, size = value.get("digest"), value.get("size")
    digits = digest.removeprefix(PREFIX) if isinstance(digest, str) else ""
    if not str(digest).startswith(PREFIX) or len(digits) != 64 or not set(digits) <= set("0123456789abcdef"):
        raise BadInput(f"{what}: {digest!r} is no sha256 digest")
    if not isinstance(size, int) or size < 0:
        raise BadInput(f"{what}: {size!r} is no size")
    return value


def _choose(layout: _Layout, index: Any, platform: str | None, depth: int) -> dict[str, Any]:
    """The descriptor of the manifest for the platform, through nested indexes."""
    path = layout.path
    if depth > _MAX_NESTING:
        raise BadInput(f"{path}: its indexes are nested too deeply")
    if not isinstance(index, dict) or not isinstance(index.get("manifests"), list) or "layers" in index:
        raise BadInput(f"{path}: index.json is ambiguous: it must have manifests, not layers", subject=path)
    candidates = [_descriptor(d, f"{path}: an entry of the index") for d in index["manifests"]]
    if not candidates:
        raise BadInput(f"{path} holds no image", subject=path)
    wanted = platform or f"linux/{_MACHINES.get(os.uname().machine, os.uname().machine)}"
    fitting = [d for d in candidates if _fits(d.get("platform"), wanted)]
    if not fitting:
        found = ", ".join(sorted({_platform(d.get("platform")) for d in candidates}))
        raise BadInput(f"{path} has no image for {wanted} (it has: {found})", hint="choose one with --platform")
    if len(fitting) > 1 and len({d["digest"] for d in fitting}) > 1 and depth == 0:
        names = ", ".join(str((d.get("annotations") or {}).get(_REF_NAME, d["digest"][:19])) for d in fitting)
        raise BadInput(f"{path} holds several images: {names}", hint="export the one that you want alone", subject=path)
    chosen = fitting[0]
    media = chosen.get("mediaType")
    if media in _INDEX:
        nested = _choose(layout, _object(layout, chosen, "index"), platform, depth + 1)
        return {**nested, "annotations": {**(nested.get("annotations") or {}), **(chosen.get("annotations") or {})}}
    if media not in _MANIFEST:
        raise BadInput(f"{path}: {media!r} is no image manifest", subject=path)
    return chosen


def _platform(platform: Any) -> str:
    if not isinstance(platform, dict):
        return "any"
    parts = [platform.get("os"), platform.get("architecture"), platform.get("variant")]
    return "/".join(str(part) for part in parts if part)


def _fits(platform: Any, wanted: str) -> bool:
    found = _platform(platform)
    return found == "any" or found == wanted or found.startswith(wanted + "/")


def _object(layout: _Layout, value: Any, what: str) -> dict[str, Any]:
    """A JSON blob, verified against its descriptor."""
    import hashlib

    from podium.appc.jsonread import MAX_BYTES

    descriptor = _descriptor(value, f"{layout.path}: {what}")
    if descriptor["size"] > MAX_BYTES:
        raise BadInput(f"{layout.path}: its {what} has {descriptor['size']} bytes, more than {MAX_BYTES}")
    with layout.open(_blob_name(descriptor["digest"])) as f:
        data = f.read(MAX_BYTES + 1)
    found = PREFIX + hashlib.sha256(data).hexdigest()
    if found != descriptor["digest"] or len(data) != descriptor["size"]:
        raise BadInput(
            f"{layout.path}: its {what} is damaged: expected {descriptor['digest']} of {descriptor['size']} bytes, "
            f"found {found} of {len(data)}",
            subject=layout.path,
        )
    content = load_json(io.BytesIO(data), f"{layout.path}: {what}")
    if not isinstance(content, dict):
        raise BadInput(f"{layout.path}: its {what} is no JSON object", subject=layout.path)
    media = content.get("mediaType")
    if media is not None and media != descriptor.get("mediaType"):
        raise BadInput(f"{layout.path}: its {what} calls itself {media}, not {descriptor.get('mediaType')}")
    return content


def _blob_name(digest: str) -> str:
    return "blobs/sha256/" + digest.removeprefix(PREFIX)


def _put(store: Store, layout: _Layout, value: Any, role: str) -> Blob:
    descriptor = _descriptor(value, f"{layout.path}: a {role}")
    digest, size = descriptor["digest"], descriptor["size"]
    if not blobs.has(store.data, digest):
        with layout.open(_blob_name(digest)) as f:
            blobs.put(store.data, f, digest=digest, size=size)
    return Blob(digest, size, role, str(descriptor.get("mediaType", "")))
