"""Archives of `docker save`: manifest.json beside layers, in folders of their own (old) or as blobs (new).

Source: the Docker image specification 1.2, "Combined Image JSON + Filesystem Changeset Format".
"""

from __future__ import annotations

import os
from typing import Any

from podium.errors import BadInput, LimitExceeded
from podium.images.archive import Archive, opened
from podium.images.conversion import from_config, layer_digests
from podium.images.job import Job
from podium.store.image import PREFIX, Blob, Image
from podium.store.naming import split, split_name
from podium.store.unpack.streams import MAGIC_BYTES, compression

_HEX = frozenset("0123456789abcdef")


def import_docker_archive(job: Job) -> Image:
    """Keep the image of an archive; its id is the digest of its configuration.

    Raises:
        BadInput: the archive is not what it has to be, or holds several images.
    """
    with opened(job.path, job.workspace, job.store.limits) as archive:
        with archive.open("manifest.json") as f:
            listed, _ = job.read_json(f, "manifest.json")
        entry = _entry(job, listed)
        config_name, layers = _text(job, entry.get("Config"), "Config"), entry.get("Layers")
        if not isinstance(layers, list):
            raise BadInput(f"{job.path}: manifest.json has no Layers", subject=job.path)
        if len(layers) > job.store.limits.max_layers:
            raise LimitExceeded(f"{job.path} has {len(layers)} layers, more than {job.store.limits.max_layers}")
        with archive.open(config_name) as f:
            config, raw = job.read_json(f, config_name, f.size)
        if not isinstance(config, dict):
            raise BadInput(f"{job.path}: {config_name} is no JSON object", subject=job.path)
        names = [job.name] if job.name else _tags(job, entry)
        first, *others = [split_name(n) for n in names]
        aliases = tuple(":".join(o) for o in others)
        diff_ids = layer_digests(config, len(layers), job.path)
        image = from_config(config, raw, first, "docker-archive", [], diff_ids, job.path)
        _check_digest(job, config_name, image.hex)
        known = job.known(image.hex)
        if known is not None:
            return known._replace(name=first[0], tags=(first[1],), aliases=aliases)
        with archive.open(config_name) as f:
            media = "application/vnd.docker.container.image.v1+json"
            blobs = [job.put(f, "config", media, image.id, f.size)]
        for name, diff_id in zip(layers, diff_ids, strict=True):
            blobs.append(_layer(job, archive, _text(job, name, "a layer"), diff_id))
    return image._replace(blobs=tuple(blobs), aliases=aliases)


def _entry(job: Job, listed: Any) -> dict[str, Any]:
    if not isinstance(listed, list) or not listed or not all(isinstance(e, dict) for e in listed):
        raise BadInput(f"{job.path}: manifest.json is no list of images", subject=job.path)
    if len(listed) == 1:
        return dict(listed[0])
    named = [e for e in listed if job.name and job.name in (e.get("RepoTags") or [])]
    if len(named) != 1:
        names = ", ".join(str((e.get("RepoTags") or [e.get("Config")])[0]) for e in listed[:8])
        raise BadInput(
            f"{job.path} holds {len(listed)} images: {names}", hint="name one of them with --name", subject=job.path
        )
    return dict(named[0])


def _tags(job: Job, entry: dict[str, Any]) -> list[str]:
    tags = entry.get("RepoTags") or []
    if not isinstance(tags, list):
        raise BadInput(f"{job.path}: RepoTags of manifest.json is no list", subject=job.path)
    if tags:
        return [_text(job, t, "a tag") for t in tags]
    stem = os.path.basename(os.path.abspath(job.path))
    return [split(stem.partition(".")[0])[0]]


def _text(job: Job, value: Any, what: str) -> str:
    if not isinstance(value, str) or not value:
        raise BadInput(f"{job.path}: manifest.json: {what} is {value!r:.80}, not text", subject=job.path)
    return value


def _check_digest(job: Job, name: str, digits: str) -> None:
    """The configuration's name is its digest, wherever it looks like one."""
    stem = name.rpartition("/")[2].removesuffix(".json")
    if len(stem) == 64 and _HEX.issuperset(stem) and stem != digits:
        raise BadInput(
            f"{job.path}: the configuration is damaged: expected {PREFIX}{stem}, found {PREFIX}{digits}",
            subject=job.path,
        )


def _layer(job: Job, archive: Archive, name: str, diff_id: str) -> Blob:
    media = "application/vnd.docker.image.rootfs.diff.tar"
    with archive.open(name) as f:
        packed = compression(f.read(MAGIC_BYTES))
    with archive.open(name) as f:
        if packed == "none":
            return job.put(f, "layer", media, diff_id, f.size)
        return job.put(f, "layer", f"{media}.{packed}")  # the digest is verified when it is rendered
