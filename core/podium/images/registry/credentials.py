"""Who we are to a registry: where podman, skopeo, buildah and docker keep it (containers-auth.json(5))."""

from __future__ import annotations

import base64
import binascii
import json
import os
import subprocess
from typing import Any, NamedTuple

from podium.errors import BadInput, Failed
from podium.images.registry.reference import Reference
from podium.records import read_bytes

_MAX_FILE = 1 << 20  # bytes
_HELPER_TIMEOUT = 30.0  # seconds


class Credentials(NamedTuple):
    """A user and password; or, with `identity` set, a token that stands for them at the token server."""

    user: str
    password: str
    identity: str = ""

    @property
    def basic(self) -> str:
        """The value of a header Authorization."""
        return "Basic " + base64.b64encode(f"{self.user}:{self.password}".encode()).decode()


def files() -> list[str]:
    """Where credentials may be, the first that has some for the registry counts."""
    env, home = os.environ, os.path.expanduser("~")
    if explicit := env.get("REGISTRY_AUTH_FILE"):
        return [explicit]
    runtime = env.get("XDG_RUNTIME_DIR")
    return [
        *([f"{runtime}/containers/auth.json"] if runtime else []),
        f"/run/containers/{os.getuid()}/auth.json",
        os.path.join(env.get("XDG_CONFIG_HOME") or os.path.join(home, ".config"), "containers/auth.json"),
        os.path.join(env.get("DOCKER_CONFIG") or os.path.join(home, ".docker"), "config.json"),
    ]


def find(reference: Reference) -> Credentials | None:
    """The credentials for an image; None: it is asked for anonymously.

    Raises:
        BadInput: a file is not what it has to be.
        Failed: a credential helper that a file names failed.
    """
    for path in files():
        found = _in_file(path, reference)
        if found is not None:
            return found
    return None


def _in_file(path: str, reference: Reference) -> Credentials | None:
    try:
        content = json.loads(read_bytes(path, _MAX_FILE))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as e:
        raise BadInput(f"the credentials {path} can't be read: {e.strerror}", subject=path) from None
    except ValueError as e:
        raise BadInput(f"the credentials {path} are no JSON: {e}", subject=path) from None
    if not isinstance(content, dict):
        raise BadInput(f"the credentials {path} are no JSON object", subject=path)
    helpers, entries = _table(content, "credHelpers"), _table(content, "auths")
    for key in reference.keys:
        if isinstance(helper := helpers.get(key), str):
            found = _ask(helper, key)
            if found is not None:
                return found
    by_host = {_plain(key): entry for key, entry in entries.items()}
    for key in reference.keys:
        entry = by_host.get(key)
        if isinstance(entry, dict) and (entry.get("auth") or entry.get("identitytoken")):
            return _entry(entry, path, key)
    store = content.get("credsStore")
    return _ask(store, reference.keys[-1]) if isinstance(store, str) and store else None


def _table(content: dict[str, Any], key: str) -> dict[str, Any]:
    value = content.get(key)
    return value if isinstance(value, dict) else {}


def _plain(key: str) -> str:
    """A key without the scheme and the path that docker writes: https://HOST/v1/."""
    bare = key.removeprefix("https://").removeprefix("http://").rstrip("/")
    return bare.removesuffix("/v1").removesuffix("/v2") if bare != key else bare


def _entry(entry: dict[str, Any], path: str, key: str) -> Credentials:
    user = password = ""
    if entry.get("auth"):
        try:
            text = base64.b64decode(str(entry["auth"]), validate=True).decode()
        except (binascii.Error, UnicodeDecodeError):
            raise BadInput(f"the credentials {path}: those of {key} are not base64", subject=path) from None
        user, colon, password = text.partition(":")
        if not colon:
            raise BadInput(f"the credentials {path}: those of {key} are not USER:PASSWORD", subject=path)
    return Credentials(user, password.rstrip("\0"), str(entry.get("identitytoken") or ""))


def _ask(helper: str, key: str) -> Credentials | None:
    """Ask docker-credential-HELPER, whose protocol is a server on standard input and JSON on standard output."""
    if "/" in helper:
        raise BadInput(f"{helper!r} is no name of a credential helper", subject=helper)
    program = f"docker-credential-{helper}"
    try:
        done = subprocess.run(
            [program, "get"], input=key, capture_output=True, text=True, timeout=_HELPER_TIMEOUT, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as e:
        raise Failed(f"the credential helper {program} failed: {e}", subject=program) from None
    if done.returncode != 0:
        if "not found" in done.stdout + done.stderr:
            return None
        raise Failed(f"the credential helper {program} failed: {done.stdout.strip()[:200]}", subject=program)
    try:
        found = json.loads(done.stdout)
        user, secret = str(found["Username"]), str(found["Secret"])
    except (ValueError, KeyError, TypeError):
        raise Failed(f"the credential helper {program} gave no credentials", subject=program) from None
    return Credentials("", "", secret) if user == "<token>" else Credentials(user, secret)
