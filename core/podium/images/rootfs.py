"""A rootfs, folder or tar, as an image: it needs a name, and a command if it is to be run without one given."""

from __future__ import annotations

import hashlib
import json
import os

from podium.appc.image_manifest import parse_image
from podium.appc.names import SPEC_VERSION, sanitize_identifier
from podium.clock import rfc3339
from podium.errors import BadInput
from podium.images.detect import open_file
from podium.images.gnutar import packed
from podium.images.job import Job
from podium.store import blobs
from podium.store.image import PREFIX, Blob, Image
from podium.store.naming import split_name
from podium.store.trees import tree_id

_ARCH = {"x86_64": "amd64", "aarch64": "aarch64"}
_MEDIA = "application/x-tar"


def import_rootfs(job: Job) -> Image:
    """Keep a rootfs as a tar; the image's id is the digest of the tar's digest and the manifest.

    Raises:
        Failed: tar could not read the folder.
        BadInput: the name or command is wrong.
    """
    if not job.name:
        raise BadInput(
            f"{job.path} is a rootfs, which has no name of its own", hint="add --name NAME[:TAG]", subject=job.path
        )
    name, tag = split_name(job.name)
    arch = _ARCH.get(os.uname().machine, os.uname().machine)
    app = {"app": {"exec": list(job.exec), "user": "0", "group": "0"}} if job.exec else {}
    manifest = parse_image(
        {
            "acKind": "ImageManifest",
            "acVersion": SPEC_VERSION,
            "name": sanitize_identifier(name),
            "labels": [{"name": "os", "value": "linux"}, {"name": "arch", "value": arch}],
            **app,
        },
        own=True,
    ).to_json()
    blob = _from_folder(job) if os.path.isdir(job.path) else _from_tar(job)
    digits = hashlib.sha256(json.dumps([blob.digest, manifest], sort_keys=True).encode()).hexdigest()
    return Image(
        id=PREFIX + digits,
        name=name,
        tags=(tag,),
        format="rootfs",
        manifest=manifest,
        blobs=(blob,),
        tree=tree_id(digits),
        tree_size=0,
        created=None,
        imported=rfc3339(),
        arch=arch,
        os="linux",
    )


def _from_tar(job: Job) -> Blob:
    with open_file(job.path) as f:
        digest = blobs.digest_of(f)
        size = f.seek(0, os.SEEK_END)
        f.seek(0)
        return job.put(f, "rootfs", _MEDIA, digest, size)


def _from_folder(job: Job) -> Blob:
    with packed((job.path, ["."])) as source:
        return job.put(source, "rootfs", _MEDIA)
