"""A rootfs, folder or tar, as an image: it needs a name, and a command if it is to be run without one given."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
from collections.abc import Sequence

from podium.appc.image_manifest import parse_image
from podium.appc.names import SPEC_VERSION, sanitize_identifier
from podium.clock import rfc3339
from podium.errors import Failed
from podium.images.importing import split_name
from podium.store import blobs
from podium.store.image import PREFIX, Blob, Image
from podium.store.store import Store
from podium.store.trees import tree_id

_ARCH = {"x86_64": "amd64", "aarch64": "aarch64"}


def import_rootfs(store: Store, path: str, name: str, exec: Sequence[str] | None) -> Image:
    """Store a rootfs as a tar blob; the image's id is the digest of the blob's digest and the manifest.

    Raises:
        Failed: tar could not read the folder.
        BadInput: the name or command is wrong.
    """
    text, tag = split_name(name)
    arch = _ARCH.get(os.uname().machine, os.uname().machine)
    app = {"app": {"exec": list(exec), "user": "0", "group": "0"}} if exec else {}
    manifest = parse_image(
        {
            "acKind": "ImageManifest",
            "acVersion": SPEC_VERSION,
            "name": sanitize_identifier(text),
            "labels": [{"name": "os", "value": "linux"}, {"name": "arch", "value": arch}],
            **app,
        },
        own=True,
    ).to_json()
    if os.path.isdir(path):
        digest, size = _archive(store, path)
    else:
        with open(path, "rb") as f:
            digest, size = blobs.put(store.data, f)
    identity = hashlib.sha256(json.dumps([digest, manifest], sort_keys=True).encode()).hexdigest()
    return Image(
        id=PREFIX + identity,
        name=text,
        tags=(tag,),
        format="rootfs",
        manifest=manifest,
        blobs=(Blob(digest, size, "rootfs", "application/x-tar"),),
        tree=tree_id(identity),
        tree_size=0,
        created=None,
        imported=rfc3339(),
        arch=arch,
        os="linux",
    )


def _archive(store: Store, path: str) -> tuple[str, int]:
    """The same folder gives the same archive: entries are sorted, and access times left out."""
    argv = ["tar", "--create", "--sort=name", "--numeric-owner", "--sparse", "--format=posix"]
    argv += ["--pax-option=delete=atime,delete=ctime", "--xattrs", "--xattrs-include=*", "--directory", path, "."]
    with subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as tar:
        assert tar.stdout is not None and tar.stderr is not None
        digest, size = blobs.put(store.data, tar.stdout)
        complaint = tar.stderr.read().decode(errors="replace").strip()
    if tar.returncode != 0:
        raise Failed(f"tar could not read {path}: {complaint[-300:]}", subject=path)
    return digest, size
