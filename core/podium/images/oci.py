"""OCI image layouts, as a folder or an archive (OCI image-spec 1.1: image-layout.md, image-index.md, manifest.md)."""

from __future__ import annotations

import hashlib
import os
from contextlib import AbstractContextManager
from typing import Any, Protocol

from podium.errors import BadInput, LimitExceeded
from podium.images.archive import Archive, opened
from podium.images.conversion import from_config, layer_digests
from podium.images.job import Job, digits_of
from podium.store.image import PREFIX, Blob, Image
from podium.store.naming import split, split_name
from podium.store.unpack.streams import Source

_OCI, _DOCKER = "application/vnd.oci.image.", "application/vnd.docker.distribution.manifest."
INDEX_TYPES = (_OCI + "index.v1+json", _DOCKER + "list.v2+json")
MANIFEST_TYPES = (_OCI + "manifest.v1+json", _DOCKER + "v2+json")
CONFIG_TYPES = (_OCI + "config.v1+json", "application/vnd.docker.container.image.v1+json")
_LAYER = (_OCI + "layer.", "application/vnd.docker.image.rootfs.")
_REF_NAME = "org.opencontainers.image.ref.name"
_FULL_NAME = "io.containerd.image.name"
_MACHINES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm/v7", "armv6l": "arm/v6", "i686": "386"}
_MAX_NESTING = 4

Descriptor = dict[str, Any]


def host_platform() -> str:
    """os/arch[/variant] of this machine, as OCI spells it."""
    machine = os.uname().machine
    return f"linux/{_MACHINES.get(machine, machine)}"


class Files(Protocol):
    """Where an OCI image is: a layout, or a registry."""

    def open(self, descriptor: Descriptor) -> AbstractContextManager[Source]:
        """A document, which need not be what the descriptor says."""
        ...

    def keep(self, job: Job, wanted: list[tuple[Descriptor, str]]) -> list[Blob]:
        """Put blobs into the job's workspace, each with its role, and verify them."""
        ...


class _Layout:
    def __init__(self, archive: Archive) -> None:
        self._archive = archive

    def open(self, descriptor: Descriptor) -> AbstractContextManager[Source]:
        return self._archive.open("blobs/sha256/" + str(descriptor["digest"]).removeprefix(PREFIX))

    def keep(self, job: Job, wanted: list[tuple[Descriptor, str]]) -> list[Blob]:
        return [self._put(job, descriptor, role) for descriptor, role in wanted]

    def _put(self, job: Job, descriptor: Descriptor, role: str) -> Blob:
        with self.open(descriptor) as f:
            return job.put(f, role, str(descriptor.get("mediaType", "")), descriptor["digest"], descriptor["size"])


def import_oci(job: Job) -> Image:
    """Keep an image of a layout; its id is the digest of its configuration.

    Raises:
        BadInput: the layout is not what the specification says, or has no image for the platform.
    """
    with opened(job.path, job.workspace, job.store.limits) as archive:
        with archive.open("index.json") as f:
            index, _ = job.read_json(f, "index.json")
        files = _Layout(archive)
        return keep_image(job, files, _choose(job, files, index, 0))


def pick(job: Job, files: Files, descriptor: Descriptor) -> Descriptor:
    """The descriptor of an image's manifest: this one, or of those in the index that this is, the platform's.

    Raises:
        BadInput: it is neither manifest nor index, or has no image for the platform.
    """
    if descriptor.get("mediaType") in INDEX_TYPES:
        index, _ = _object(job, files, descriptor, "the index", INDEX_TYPES)
        return _choose(job, files, index, 1)
    return descriptor


def keep_image(job: Job, files: Files, descriptor: Descriptor) -> Image:
    """Keep the image of a manifest; see `import_oci`."""
    manifest, _ = _object(job, files, descriptor, "the manifest", MANIFEST_TYPES)
    _check_manifest(job, manifest)
    config, raw = _object(job, files, manifest["config"], "the configuration", CONFIG_TYPES)
    if "platform" not in descriptor:  # else it was chosen by that
        _check_platform(job, config)
    names = split_name(job.name or _own_name(job.path, descriptor))
    known = job.known(digits_of(manifest["config"]["digest"], job.path))
    if known is not None:
        return known._replace(name=names[0], tags=(names[1],), aliases=())
    layers = manifest["layers"]
    diff_ids = layer_digests(config, len(layers), job.path)
    wanted = [(descriptor, "manifest"), (manifest["config"], "config"), *((layer, "layer") for layer in layers)]
    return from_config(config, raw, names, "oci", files.keep(job, wanted), diff_ids, job.path)


def _check_platform(job: Job, config: dict[str, Any]) -> None:
    """What was asked for by name must be what comes, also where there is no choice."""
    found = "/".join(str(config[k]) for k in ("os", "architecture", "variant") if config.get(k))
    if job.platform and not (found == job.platform or found.startswith(job.platform + "/")):
        if job.platform.startswith(found + "/"):
            return  # many configurations do not tell the variant
        raise BadInput(f"{job.path} is an image for {found}, not for {job.platform}", subject=job.path)


def _own_name(path: str, descriptor: Descriptor) -> str:
    annotations = descriptor.get("annotations")
    notes = annotations if isinstance(annotations, dict) else {}
    if full := notes.get(_FULL_NAME):
        return str(full)
    stem = os.path.basename(os.path.abspath(path))
    for ending in (".gz", ".zst", ".xz", ".bz2", ".tar", ".oci"):
        stem = stem.removesuffix(ending)
    ref = str(notes.get(_REF_NAME) or "latest")
    return ref if "/" in ref or ":" in ref else f"{stem}:{ref}"


def _choose(job: Job, files: Files, index: Any, depth: int) -> Descriptor:
    """The descriptor of the manifest for the platform, through nested indexes."""
    path = job.path
    if depth > _MAX_NESTING:
        raise BadInput(f"{path}: its indexes are nested too deeply", subject=path)
    if not isinstance(index, dict) or index.get("schemaVersion", 2) != 2:
        raise BadInput(f"{path}: the index is of no known version", subject=path)
    confusing = [k for k in ("layers", "config", "fsLayers") if k in index]
    if confusing or not isinstance(index.get("manifests"), list):
        raise BadInput(f"{path}: the index is ambiguous: it has {', '.join(confusing) or 'no manifests'}", subject=path)
    if index.get("mediaType") not in (None, *INDEX_TYPES):
        raise BadInput(f"{path}: the index calls itself {index['mediaType']!r:.80}", subject=path)
    candidates = [_descriptor(d, f"{path}: an entry of the index") for d in index["manifests"]]
    if not candidates:
        raise BadInput(f"{path} holds no image", subject=path)
    chosen = _fitting(job, candidates, depth)
    if chosen.get("mediaType") in INDEX_TYPES:
        inner, _ = _object(job, files, chosen, "a nested index", INDEX_TYPES)
        nested = _choose(job, files, inner, depth + 1)
        return {**nested, "annotations": {**_notes(nested), **_notes(chosen)}}
    if chosen.get("mediaType") not in MANIFEST_TYPES:
        raise BadInput(f"{path}: {chosen.get('mediaType')!r:.80} is no image manifest", subject=path)
    return chosen


def _fitting(job: Job, candidates: list[Descriptor], depth: int) -> Descriptor:
    wanted = job.platform or host_platform()
    found = [(d, _platform(d)) for d in candidates]
    fitting = [d for d, p in found if p == wanted] or [d for d, p in found if p.startswith(wanted + "/")]
    fitting = fitting or [d for d, p in found if p == "any"]
    if not fitting:
        there = ", ".join(sorted({p for _, p in found}))
        raise BadInput(
            f"{job.path} has no image for {wanted}, only for {there}",
            hint="choose one with --platform",
            subject=job.path,
        )
    if depth == 0 and len({d["digest"] for d in fitting}) > 1:
        tag = split(job.name)[1] if job.name else None
        named = [d for d in fitting if _notes(d).get(_REF_NAME) in (job.name, tag) and job.name]
        if len(named) != 1:
            names = ", ".join(str(_notes(d).get(_REF_NAME, d["digest"][:19])) for d in fitting)
            raise BadInput(
                f"{job.path} holds several images: {names}", hint="name one of them with --name", subject=job.path
            )
        return named[0]
    return fitting[0]


def _notes(descriptor: Descriptor) -> dict[str, Any]:
    notes = descriptor.get("annotations")
    return notes if isinstance(notes, dict) else {}


def _platform(descriptor: Descriptor) -> str:
    platform = descriptor.get("platform")
    if not isinstance(platform, dict):
        return "any"
    parts = [platform.get("os"), platform.get("architecture"), platform.get("variant")]
    return "/".join(str(part) for part in parts if part)


def _descriptor(value: Any, what: str) -> Descriptor:
    if not isinstance(value, dict):
        raise BadInput(f"{what} is no descriptor")
    digits_of(value.get("digest"), what)
    size = value.get("size")
    if not isinstance(size, int) or isinstance(size, bool) or size < 0:
        raise BadInput(f"{what}: {size!r:.40} is no size")
    return value


def _object(
    job: Job, files: Files, value: Any, what: str, media_types: tuple[str, ...]
) -> tuple[dict[str, Any], bytes]:
    """A JSON blob, verified against its descriptor, and its bytes."""
    descriptor = _descriptor(value, f"{job.path}: {what}")
    media = descriptor.get("mediaType")
    if media not in media_types:
        raise BadInput(f"{job.path}: {what} is of type {media!r:.100}, which is none of an image's", subject=job.path)
    with files.open(descriptor) as f:
        raw = job.read_document(f, what, descriptor["size"])
    found = PREFIX + hashlib.sha256(raw).hexdigest()
    if found != descriptor["digest"] or len(raw) != descriptor["size"]:
        raise BadInput(
            f"{job.path}: {what} is damaged: expected {descriptor['digest']} of {descriptor['size']} bytes, "
            f"found {found} of {len(raw)}",
            subject=job.path,
        )
    content = job.parse(raw, what)
    if not isinstance(content, dict):
        raise BadInput(f"{job.path}: {what} is no JSON object", subject=job.path)
    if content.get("mediaType", media) != media:
        raise BadInput(
            f"{job.path}: {what} calls itself {content['mediaType']!r:.80}, its descriptor {media}", subject=job.path
        )
    return content, raw


def _check_manifest(job: Job, manifest: dict[str, Any]) -> None:
    """Refuse what one reader takes for a manifest and another for an index (CVE-2021-41190)."""
    confusing = [k for k in ("manifests", "fsLayers") if k in manifest]
    layers = manifest.get("layers")
    if manifest.get("schemaVersion") != 2:
        raise BadInput(f"{job.path}: the manifest is of version {manifest.get('schemaVersion')!r:.40}, not 2")
    if confusing or not isinstance(layers, list) or "config" not in manifest:
        raise BadInput(
            f"{job.path}: the manifest is ambiguous: it must have config and layers, and no manifests", subject=job.path
        )
    if len(layers) > job.store.limits.max_layers:
        raise LimitExceeded(f"{job.path} has {len(layers)} layers, more than {job.store.limits.max_layers}")
    for layer in layers:
        media = _descriptor(layer, f"{job.path}: a layer").get("mediaType")
        if not isinstance(media, str) or not media.startswith(_LAYER) or media.endswith("+encrypted"):
            raise BadInput(f"{job.path}: a layer of type {media!r:.100} can't be unpacked", subject=job.path)
