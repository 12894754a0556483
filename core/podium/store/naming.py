"""Names of images: NAME[:TAG], and the links in cache/names that lead from one to its record in two system calls."""

from __future__ import annotations

import os

from podium.errors import BadInput
from podium.paths import DataDir

LATEST = "latest"
MAX_LENGTH = 512  # characters of name and tag
_TAG = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-+~")
_NAME = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-~/:@+")


def split(text: str) -> tuple[str, str | None]:
    """NAME[:TAG] as name and tag; a colon before a slash belongs to a host's port."""
    if ":" in text.rpartition("/")[2]:
        name, _, tag = text.rpartition(":")
        return name, tag
    return text, None


def split_name(text: str) -> tuple[str, str]:
    """NAME[:TAG] as name and tag (`latest` if there is none).

    Raises:
        BadInput: it is no name that an image can have.
    """
    name, tag = split(text)
    tag = LATEST if tag is None else tag
    if (
        not name
        or not tag
        or len(text) > MAX_LENGTH
        or not _NAME.issuperset(name)
        or not _TAG.issuperset(tag)
        or not (name[0].isalnum() and name[-1].isalnum())
        or any(part in ("", ".", "..") for part in name.split("/"))
        or ":" in name.rpartition("/")[2]
    ):
        raise BadInput(
            f"{text[:160]!r} is no image name",
            hint="write NAME or NAME:TAG, of letters, digits and . _ - ~ / (as in web, acme/web:1.2)",
            subject=text[:160],
        )
    return name, tag


def _link(data: DataDir, reference: str) -> str | None:
    """Where the link of a `name:tag` is; None if no file can be called so."""
    name = reference.replace("%", "%25").replace("/", "%2f")
    return os.path.join(data.cache, "names", name) if len(name) < 250 else None


def look_up(data: DataDir, reference: str) -> str | None:
    """The digits of the image that had the name when the link was made; to be checked against its record."""
    path = _link(data, reference)
    if path is None:
        return None
    try:
        return os.readlink(path)
    except OSError:
        return None


def forget(data: DataDir, reference: str) -> None:
    """Remove a link, before what it says may become wrong."""
    path = _link(data, reference)
    if path is not None:
        try:
            os.unlink(path)
        except FileNotFoundError:
            pass


def remember(data: DataDir, reference: str, digits: str) -> None:
    """Make a link; it is only a cache, so nothing is synced."""
    path = _link(data, reference)
    if path is None:
        return
    os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
    hidden = f"{os.path.dirname(path)}/%tmp-{os.getpid()}-{os.urandom(4).hex()}"
    os.symlink(digits, hidden)
    os.rename(hidden, path)
