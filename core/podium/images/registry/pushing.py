"""Pushing an image: the blobs that the registry lacks, several at once, then the manifest."""

from __future__ import annotations

import concurrent.futures
import os
import threading
from typing import IO

from podium.errors import BadUsage, NotFound, RegistryFailed
from podium.images.meter import Meter, Report
from podium.images.ociform import OciImage, as_oci, path_of
from podium.images.registry.client import Client
from podium.images.registry.parallel import move_all
from podium.images.registry.reference import parse
from podium.store.image import Blob
from podium.store.store import Store
from podium.store.workspace import Workspace

_ATTEMPTS = 3


def push_image(store: Store, ref: str, address: str, *, tls_verify: bool = True, progress: Report | None = None) -> str:
    """Push an image to a registry; what the registry has is not sent again.

    Args:
        store: where the image is.
        ref: which; see `Store.resolve`.
        address: docker://HOST[:PORT]/NAME[:TAG].
        tls_verify: see `fetch_image`.
        progress: called with bytes done and bytes in all.

    Returns:
        The digest of its manifest there.

    Raises:
        BadUsage: the address is none, or has a digest.
        AccessDenied, RegistryFailed: see `fetch_image`.
        Corrupt: something of the image is missing.
    """
    reference = parse(address)
    if reference.digest:
        raise BadUsage(f"{reference}: what is pushed has a tag, its digest follows from it", subject=address)
    image = store.resolve(ref)
    with Workspace(store.data) as workspace, Client(reference, verify=tls_verify, actions="pull,push") as client:
        oci = as_oci(store, workspace, image, docker=True)
        uploads = [_Upload(blob, path_of(workspace, blob)) for blob in oci.blobs]
        meter = Meter(progress, sum(blob.size for blob in oci.blobs))
        move_all(client, uploads, meter)
        _put_manifest(client, oci)
    return oci.digest


def _put_manifest(client: Client, oci: OciImage) -> None:
    headers = {"Content-Type": oci.media_type, "Content-Length": str(len(oci.manifest))}
    response = client.request(
        "PUT", f"manifests/{client.reference.version}", headers=headers, body=lambda: oci.manifest
    )
    response.drain_conn()
    told = response.headers.get("Docker-Content-Digest", oci.digest)
    if told != oci.digest:
        raise RegistryFailed(f"{client.reference}: the registry stored {told} instead of {oci.digest}")


class _Upload:
    """A blob that is being pushed; `at` are the bytes that are there."""

    def __init__(self, blob: Blob, path: str) -> None:
        self.blob, self.path, self.at = blob, path, 0

    def move(self, client: Client, stop: threading.Event) -> None:
        """Send it, if it is not there."""
        if self._is_there(client):
            self.at = self.blob.size
            return
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                self._put(client, stop)
                return
            except RegistryFailed:
                if attempt == _ATTEMPTS or stop.is_set():
                    raise
                stop.wait(0.5 * attempt)

    def abort(self) -> None:
        """Nothing to do: the next read of the file ends it."""

    def _is_there(self, client: Client) -> bool:
        try:
            client.request("HEAD", f"blobs/{self.blob.digest}").drain_conn()
        except NotFound:
            return False
        return True

    def _put(self, client: Client, stop: threading.Event) -> None:
        response = client.request("POST", "blobs/uploads/", headers={"Content-Length": "0"}, body=lambda: b"")
        response.drain_conn()
        location = response.headers.get("Location")
        if response.status != 202 or not location:
            raise RegistryFailed(f"{client.reference}: the registry takes no upload (HTTP {response.status})")
        url = client.absolute(location)
        url += ("&" if "?" in url else "?") + f"digest={self.blob.digest}"
        headers = {"Content-Type": "application/octet-stream", "Content-Length": str(self.blob.size)}
        with open(self.path, "rb") as f:

            def body() -> IO[bytes]:
                f.seek(0)
                self.at = 0
                return _Watched(f, self, stop)  # type: ignore[return-value]  # only its `read` is used

            client.request("PUT", url, headers=headers, body=body).drain_conn()
        self.at = self.blob.size


class _Watched:
    """A file that tells how much was read of it, and stops when it is told to."""

    def __init__(self, f: IO[bytes], upload: _Upload, stop: threading.Event) -> None:
        self._f, self._upload, self._stop = f, upload, stop

    def read(self, size: int = -1) -> bytes:
        if self._stop.is_set():
            raise concurrent.futures.CancelledError
        data = self._f.read(size)
        self._upload.at += len(data)
        return data

    def tell(self) -> int:
        return self._f.tell()

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        return self._f.seek(offset, whence)
