"""A blob on its way from a registry, into a file that a later attempt goes on with; see podium.store.partial."""

from __future__ import annotations

import concurrent.futures
import hashlib
import os
import threading
from contextlib import suppress

from urllib3.exceptions import HTTPError
from urllib3.response import BaseHTTPResponse

from podium.errors import BadInput, RegistryFailed
from podium.images.registry.client import Client
from podium.paths import DataDir
from podium.store import partial
from podium.store.image import PREFIX
from podium.trace import trace

_CHUNK = 1 << 20
_ATTEMPTS = 5  # in a row that bring nothing


class Download:
    """A blob that is being fetched.

    Attributes:
        digest, size: what it will have.
        path: where it is.
        at: bytes that have arrived.
    """

    def __init__(self, data: DataDir, digest: str, size: int) -> None:
        self.digest, self.size, self.at = digest, size, 0
        self.path = os.path.join(data.partial, digest.removeprefix(PREFIX))
        os.makedirs(data.partial, mode=0o700, exist_ok=True)
        self._fd = partial.claim(self.path)
        self._sha = hashlib.sha256()
        self._response: BaseHTTPResponse | None = None

    def close(self) -> None:
        """Let others have it."""
        os.close(self._fd)

    def move(self, client: Client, stop: threading.Event) -> None:
        """Get what is missing of it, and verify it.

        Raises:
            BadInput: the registry gives something else than the digest says.
            RegistryFailed: the connection is lost again and again; what has arrived stays.
        """
        resumed = self._take_up()
        while True:
            self._complete(client, stop)
            found = PREFIX + self._sha.hexdigest()
            if found == self.digest:
                os.fchmod(self._fd, 0o444)
                return
            self._restart()
            if not resumed:
                raise BadInput(
                    f"{client.reference}: a blob is damaged: expected {self.digest}, found {found}", subject=self.digest
                )
            resumed = False  # what an earlier attempt left may have been wrong

    def abort(self) -> None:
        """Called from another thread, once `stop` is set: wait for the registry no longer."""
        response = self._response
        if response is not None:
            with suppress(HTTPError, OSError, ValueError, RuntimeError):  # it may end at this moment
                response.shutdown()

    def _take_up(self) -> bool:
        """Digest what has arrived before."""
        if os.fstat(self._fd).st_size > self.size:
            self._restart()
        os.lseek(self._fd, 0, os.SEEK_SET)
        while chunk := os.read(self._fd, _CHUNK):
            self._sha.update(chunk)
            self.at += len(chunk)
        return self.at > 0

    def _restart(self) -> None:
        os.ftruncate(self._fd, 0)
        os.lseek(self._fd, 0, os.SEEK_SET)
        self.at, self._sha = 0, hashlib.sha256()

    def _complete(self, client: Client, stop: threading.Event) -> None:
        failures = 0
        while self.at < self.size:
            if stop.is_set():
                raise concurrent.futures.CancelledError
            before, reason = self.at, "it ended early"
            try:
                self._receive(client, stop)
            except HTTPError as e:
                reason = str(e)
            if self.at >= self.size:
                return
            failures = failures + 1 if self.at <= before else 0
            if failures >= _ATTEMPTS:
                raise RegistryFailed(
                    f"{client.reference}: the connection is lost again and again: {reason[:200]}",
                    hint="what has arrived is kept: fetch it again later",
                    subject=self.digest,
                )
            stop.wait(0.1 * 2**failures)

    def _receive(self, client: Client, stop: threading.Event) -> None:
        headers = {"Range": f"bytes={self.at}-"} if self.at else {}
        response = client.request("GET", f"blobs/{self.digest}", headers=headers)
        self._response = response
        try:
            if stop.is_set():
                raise concurrent.futures.CancelledError
            continued = response.headers.get("Content-Range", "").startswith(f"bytes {self.at}-")
            if response.status == 416 or (self.at and not (response.status == 206 and continued)):
                self._restart()
                if response.status != 200:
                    return
            for chunk in response.stream(_CHUNK, decode_content=False):
                if stop.is_set():
                    raise concurrent.futures.CancelledError
                if self.at + len(chunk) > self.size:
                    self._restart()
                    raise BadInput(
                        f"{client.reference}: a blob is larger than the {self.size} bytes that its descriptor says",
                        subject=self.digest,
                    )
                left = memoryview(chunk)
                while left:
                    left = left[os.write(self._fd, left) :]
                self._sha.update(chunk)
                self.at += len(chunk)
                trace("fetch:chunk")
        finally:
            self._response = None
            response.close()
