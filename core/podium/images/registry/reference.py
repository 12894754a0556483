"""What an image in a registry is called: docker://HOST[:PORT]/NAME[:TAG|@DIGEST]."""

from __future__ import annotations

from podium.errors import BadUsage
from podium.named import NamedTuple

SCHEME = "docker://"
_HINT = "write docker://HOST[:PORT]/NAME[:TAG|@DIGEST], as in docker://registry.example:5000/team/web:1.2"
_HUB = "docker.io"  # a name that has no registry: this is where it is, and under which names it is known elsewhere
_HUB_SERVER = "registry-1.docker.io"
_HUB_KEYS = (_HUB, "index.docker.io", "index.docker.io/v1")
_HEX = frozenset("0123456789abcdef")
_PATH = frozenset("abcdefghijklmnopqrstuvwxyz0123456789._-")
_TAG = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-")
_HOST = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-:[]")


class Reference(NamedTuple):
    """An image in a registry.

    Attributes:
        host: with its port, as it was written.
        repository: the image's name there.
        tag: None if a digest is given.
        digest: `sha256:<hex>`.
    """

    host: str
    repository: str
    tag: str | None
    digest: str | None

    @property
    def server(self) -> str:
        """Whom to ask: host and port."""
        return _HUB_SERVER if self.host == _HUB else self.host

    @property
    def version(self) -> str:
        """Tag or digest, as the registry's paths have it."""
        return self.digest or self.tag or ""

    @property
    def name(self) -> str:
        """What the image is called in the store."""
        return f"{self.host}/{self.repository}" + (f"@{self.digest}" if self.digest else f":{self.tag}")

    @property
    def keys(self) -> list[str]:
        """Under which its credentials may be filed, the closest first (containers-auth.json(5))."""
        hosts = _HUB_KEYS if self.host == _HUB else (self.host,)
        parts = self.repository.split("/")
        paths = [f"{self.host}/{'/'.join(parts[:n])}" for n in range(len(parts), 0, -1)]
        return [*paths, *hosts]

    def __str__(self) -> str:
        """As a user writes it."""
        return SCHEME + self.name


def parse(text: str) -> Reference:
    """What `text` names; without tag and digest, the tag `latest`.

    Raises:
        BadUsage: it is no reference.
    """
    rest = text.removeprefix(SCHEME)
    host, slash, path = rest.partition("/")
    if rest == text or not slash or not host:
        raise BadUsage(f"{text!r:.200} names no image in a registry", hint=_HINT, subject=text[:200])
    path, at, digest = path.partition("@")
    path, colon, tag = path.partition(":")
    if host == _HUB and "/" not in path:
        path = f"library/{path}"
    parts = path.split("/")
    digits = digest.removeprefix("sha256:")
    faults = {
        f"{host!r} is no host": not _HOST.issuperset(host) or (not host[0].isalnum() and host[0] != "["),
        f"{path!r} is no name": len(path) > 255
        or any(not p or not _PATH.issuperset(p) or not (p[0].isalnum() and p[-1].isalnum()) for p in parts),
        f"{tag!r} is no tag": bool(colon) and (not tag or len(tag) > 128 or not _TAG.issuperset(tag) or tag[0] in ".-"),
        f"{digest!r} is no sha256 digest": bool(at)
        and (digits == digest or len(digits) != 64 or not _HEX.issuperset(digits)),
    }
    for fault, is_true in faults.items():
        if is_true:
            raise BadUsage(f"{text!r:.200}: {fault}", hint=_HINT, subject=text[:200])
    return Reference(host, path, None if at else tag or "latest", digest or None)
