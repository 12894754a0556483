"""ACIs: a tar, perhaps compressed, of `manifest` and `rootfs/` (appc 0.8.11, aci.md)."""

from __future__ import annotations

from typing import NamedTuple

from podium.appc.image_manifest import Dependency, ImageManifest, parse_image
from podium.appc.names import to_podium_id
from podium.clock import rfc3339
from podium.errors import BadInput, LimitExceeded, NotFound
from podium.images.detect import open_file
from podium.images.job import Job
from podium.store import blobs
from podium.store.image import PREFIX, Blob, Image
from podium.store.index import with_blob
from podium.store.limits import MAX_ENTRIES, located
from podium.store.naming import split_name
from podium.store.trees import tree_id
from podium.store.unpack import tar
from podium.store.unpack.extract import clean
from podium.store.unpack.streams import Digested, decompressed

_MEDIA = "application/vnd.appc.aci"
_MAX_DEPENDENCIES = 128


def import_aci(job: Job) -> Image:
    """Keep an ACI; its id is the sha256 of the archive without compression.

    Raises:
        BadInput: it has no manifest or rootfs, or the manifest breaks the specification's rules.
        NotFound: an image that it depends on is not in the store.
    """
    with open_file(job.path) as f:
        digest = blobs.digest_of(f)
    for digits in with_blob(job.store.data, digest):
        known = job.known(digits)
        if known is not None and known.format == "aci" and known.blobs[-1].digest == digest:
            names = split_name(job.name) if job.name else (known.name, known.tags[0] if known.tags else "latest")
            return known._replace(name=names[0], tags=(names[1],), aliases=())
    found = _read(job)
    with open_file(job.path) as f:
        blob = job.put(f, "aci", _MEDIA, digest)
    manifest = found.manifest
    own = f"{manifest.name}:{manifest.labels.get('version', 'latest')}"
    name, tag = split_name(job.name or own)
    paths = manifest.path_whitelist
    return Image(
        id=PREFIX + found.digits,
        name=name,
        tags=(tag,),
        format="aci",
        manifest=manifest.to_json(),
        blobs=(*_dependencies(job, manifest), blob._replace(paths=paths)),
        tree=tree_id(found.digits),
        tree_size=0,
        created=manifest.annotations.get("created"),
        imported=rfc3339(),
        arch=manifest.labels.get("arch"),
        os=manifest.labels.get("os"),
    )


class _Found(NamedTuple):
    manifest: ImageManifest
    digits: str


def _read(job: Job) -> _Found:
    """The manifest, and the digest of the archive without compression; all of it is read."""
    limits = job.store.limits
    manifest, has_rootfs = None, False
    with open_file(job.path) as f:
        source = Digested(decompressed(f, limits))
        reader = tar.Reader(source, limits)
        try:
            for entry in reader:
                if reader.seen > limits.max_entries:
                    raise LimitExceeded(f"more than {limits.max_entries} entries", hint=MAX_ENTRIES)
                name = clean(entry.name)
                has_rootfs |= name == "rootfs" or name.startswith("rootfs/")
                if name == "manifest":
                    if manifest is not None:
                        raise BadInput("it has two files 'manifest'")
                    if entry.kind != tar.FILE or entry.sparse is not None or entry.size > limits.max_manifest:
                        raise BadInput(f"its 'manifest' is a {entry.kind} of {entry.size} bytes")
                    manifest = parse_image(b"".join(reader.content()))
            reader.drain()
        except BadInput as e:
            raise located(e, f"{job.path} is no proper ACI") from None
    missing = "file 'manifest'" if manifest is None else "folder 'rootfs'" if not has_rootfs else ""
    if missing or manifest is None:
        raise BadInput(f"{job.path} is no ACI: it has no {missing}", subject=job.path)
    return _Found(manifest, source.sha.hexdigest())


def _dependencies(job: Job, manifest: ImageManifest) -> list[Blob]:
    """The ACIs whose files come before the image's own, in order, each with the paths that are taken from it."""
    result: list[Blob] = []
    for dependency in manifest.dependencies:
        image = _find(job, dependency)
        if image.format != "aci":
            raise BadInput(f"{job.path} depends on {image.name}, which is no ACI but of format {image.format}")
        for blob in image.blobs:
            if not blobs.adopt(job.store.data, job.workspace, blob.digest, blob.size):
                raise BadInput(f"{job.path} depends on {image.name}, whose blob {blob.digest} is missing")
            paths = _both(blob.paths, manifest.path_whitelist)
            if paths is not None:
                result.append(blob._replace(role="dependency", paths=paths))
    if len(result) > _MAX_DEPENDENCIES:
        raise LimitExceeded(f"{job.path} depends on {len(result)} images, more than {_MAX_DEPENDENCIES}")
    return result


def _both(one: tuple[str, ...], other: tuple[str, ...]) -> tuple[str, ...] | None:
    """The paths that both lists allow, of which an empty one allows all; None if that leaves nothing."""
    if not one or not other:
        return one or other
    return tuple(p for p in one if p in set(other)) or None


def _find(job: Job, dependency: Dependency) -> Image:
    wanted = dict(dependency.labels)
    images = job.store.images()
    if dependency.image_id and dependency.image_id.startswith("sha256-"):
        found = [i for i in images if i.id == to_podium_id(dependency.image_id)]
    else:
        found = [i for i in images if i.manifest.get("name") == dependency.image_name and _has(i, wanted)]
    if not found:
        labels = "".join(f" {k}={v}" for k, v in wanted.items())
        raise NotFound(
            f"{job.path} depends on {dependency.image_name}{labels}, which is not in the store",
            hint="import that image first",
            subject=dependency.image_name,
        )
    return max(found, key=lambda i: i.imported)


def _has(image: Image, labels: dict[str, str]) -> bool:
    own = {str(pair["name"]): str(pair["value"]) for pair in image.manifest.get("labels", [])}
    return all(own.get(k) == v for k, v in labels.items())
