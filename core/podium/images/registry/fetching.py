"""Fetching an image: its manifest is asked for; of the rest, what the store lacks."""

from __future__ import annotations

import hashlib
import io
import os
from typing import IO

from podium.errors import BadInput, LimitExceeded, NotFound
from podium.images.importing import finish
from podium.images.job import Job
from podium.images.meter import Meter, Report
from podium.images.oci import INDEX_TYPES, MANIFEST_TYPES, Descriptor, keep_image, pick
from podium.images.registry.client import Client
from podium.images.registry.download import Download
from podium.images.registry.parallel import move_all
from podium.images.registry.reference import Reference, parse
from podium.store import blobs, locks
from podium.store.image import PREFIX, Blob, Image
from podium.store.index import with_blob
from podium.store.limits import MAX_BYTES
from podium.store.naming import split_name
from podium.store.store import Store
from podium.store.workspace import Workspace, sweep
from podium.trace import trace

_ACCEPT = ", ".join((*INDEX_TYPES, *MANIFEST_TYPES))


def fetch_image(
    store: Store,
    address: str,
    *,
    name: str | None = None,
    platform: str | None = None,
    tls_verify: bool = True,
    progress: Report | None = None,
) -> Image:
    """Fetch an image from a registry. What the store has is not fetched again, nor what a killed fetch has got.

    Args:
        store: where to.
        address: docker://HOST[:PORT]/NAME[:TAG|@DIGEST].
        name: name[:tag], in place of HOST/NAME:TAG.
        platform: os/arch[/variant] of an image for several; None: this machine's.
        tls_verify: whether the registry must be who it says; without, it may also speak HTTP alone.
        progress: called with bytes done, bytes in all and files done.

    Raises:
        BadUsage: the address is none.
        NotFound: the registry has no such image.
        AccessDenied: it wants other credentials.
        RegistryFailed: it can't be reached, or fails.
        BadInput: what it gives is no image, or is not what its digests say.
    """
    reference = parse(address)
    name = name or reference.name
    split_name(name)
    meter = Meter(progress)
    sweep(store.data)
    with Client(reference, verify=tls_verify, actions="pull") as client, Workspace(store.data) as workspace:
        job = Job(store, workspace, str(reference), name, None, platform, None)
        known = _known(job, reference) if reference.digest else None
        if known is not None:
            return finish(store, workspace, known, meter)
        files = _Files(store, client, meter)
        try:
            top = files.top(reference)
            with locks.locked(store.data, locks.work("import", str(top["digest"]).removeprefix(PREFIX))):
                image = keep_image(job, files, pick(job, files, top))
                trace("fetch:blobs")
                added = finish(store, workspace, image, meter)
            files.forget()
            return added
        finally:
            files.close()


def stored_or_fetched(store: Store, address: str, *, tls_verify: bool = True, progress: Report | None = None) -> Image:
    """The image that is stored under the name it has at this address; fetched if there is none. See `fetch_image`."""
    try:
        return store.resolve(parse(address).name)
    except NotFound:
        return fetch_image(store, address, tls_verify=tls_verify, progress=progress)


def _known(job: Job, reference: Reference) -> Image | None:
    """The image of this manifest, if the store has it whole: a digest never means anything else."""
    assert reference.digest is not None and job.name is not None
    for digits in with_blob(job.store.data, reference.digest):
        image = job.known(digits)
        if image is not None:
            name, tag = split_name(job.name)
            return image._replace(name=name, tags=(tag,), aliases=())
    return None


class _Files:
    """What a registry has of an image; see `podium.images.oci.Files`."""

    def __init__(self, store: Store, client: Client, meter: Meter) -> None:
        self._store, self._client, self._meter = store, client, meter
        self._documents: dict[str, bytes] = {}
        self._downloads: list[Download] = []

    def top(self, reference: Reference) -> Descriptor:
        """The descriptor of what the reference names."""
        path, accept = f"manifests/{reference.version}", {"Accept": _ACCEPT}
        response = self._client.request("HEAD", path, headers=accept)
        response.drain_conn()
        digest = response.headers.get("Docker-Content-Digest", "")
        size = response.headers.get("Content-Length", "")
        media = response.headers.get("Content-Type", "").partition(";")[0].strip()
        if reference.digest in (None, digest) and digest.startswith(PREFIX) and size.isdigit() and media:
            return {"mediaType": media, "digest": digest, "size": int(size)}
        response = self._client.request("GET", path, headers=accept)
        raw = self._client.read(response, self._store.limits.max_manifest)
        found = PREFIX + hashlib.sha256(raw).hexdigest()
        if reference.digest not in (None, found):
            raise BadInput(f"{reference}: the registry gives {found} for it", subject=str(reference))
        self._documents[found] = raw
        media = response.headers.get("Content-Type", "").partition(";")[0].strip()
        return {"mediaType": media, "digest": found, "size": len(raw)}

    def open(self, descriptor: Descriptor) -> IO[bytes]:
        """A document, which the caller verifies."""
        digest, size = str(descriptor["digest"]), int(descriptor["size"])
        if digest not in self._documents:
            self._documents[digest] = self._stored(digest, size) or self._get(descriptor)
        return io.BytesIO(self._documents[digest])

    def _stored(self, digest: str, size: int) -> bytes | None:
        try:
            with open(self._store.data.blob(digest.removeprefix(PREFIX)), "rb") as f:
                data = f.read(size + 1)
        except FileNotFoundError:
            return None
        return data if PREFIX + hashlib.sha256(data).hexdigest() == digest else None

    def _get(self, descriptor: Descriptor) -> bytes:
        digest, media = descriptor["digest"], str(descriptor.get("mediaType"))
        is_manifest = media in INDEX_TYPES or media in MANIFEST_TYPES
        path = f"manifests/{digest}" if is_manifest else f"blobs/{digest}"
        response = self._client.request("GET", path, headers={"Accept": media} if is_manifest else {})
        return self._client.read(response, self._store.limits.max_manifest)

    def keep(self, job: Job, wanted: list[tuple[Descriptor, str]]) -> list[Blob]:
        """Get what the store lacks, several at once."""
        data, workspace = self._store.data, job.workspace
        missing: dict[str, int] = {}
        for descriptor, role in wanted:
            digest, size = str(descriptor["digest"]), int(descriptor["size"])
            if size > self._store.limits.max_bytes:
                raise LimitExceeded(
                    f"{job.path}: a blob of {size} bytes is more than {self._store.limits.max_bytes}", hint=MAX_BYTES
                )
            if digest in self._documents:
                job.put(io.BytesIO(self._documents[digest]), role, "", digest, size)
            elif missing.setdefault(digest, size) != size:
                raise BadInput(f"{job.path}: two sizes are given for {digest}", subject=job.path)
        # In one order for all, so that two fetches never wait for each other.
        for digest, size in sorted(missing.items()):
            if not blobs.adopt(data, workspace, digest, size):
                download = Download(data, digest, size)
                self._downloads.append(download)
                if blobs.adopt(data, workspace, digest, size):  # whoever had the lock has fetched it
                    self._downloads.remove(download)
                    os.unlink(download.path)
                    download.close()
        self._meter.expect(sum(p.size for p in self._downloads))
        if self._downloads:
            workspace.dirty = True
            move_all(self._client, self._downloads, self._meter)
        for download in self._downloads:
            os.link(download.path, os.path.join(workspace.blobs, download.digest.removeprefix(PREFIX)))
        return [Blob(str(d["digest"]), int(d["size"]), role, str(d.get("mediaType", ""))) for d, role in wanted]

    def forget(self) -> None:
        """The blobs are in the store."""
        for download in self._downloads:
            os.unlink(download.path)

    def close(self) -> None:
        """Let go of what was got; without `forget` it stays for the next attempt."""
        for download in self._downloads:
            download.close()
