"""Requests to one repository of a registry: TLS, proxies, authorization, and errors in the user's words."""

from __future__ import annotations

import json
import os
import ssl
import threading
import urllib.request
from collections.abc import Callable, Mapping
from typing import IO, Any
from urllib.parse import urlencode, urljoin, urlsplit

import urllib3
from urllib3.exceptions import HTTPError, InsecureRequestWarning, MaxRetryError, NewConnectionError, SSLError
from urllib3.response import BaseHTTPResponse

from podium import __version__
from podium.errors import AccessDenied, BadInput, NotFound, PodiumError, RegistryFailed
from podium.images.registry import credentials
from podium.images.registry.reference import Reference

PARALLEL = 4  # connections
_TIMEOUT = urllib3.Timeout(connect=15.0, read=60.0)  # seconds
_MAX_ANSWER = 1 << 20  # bytes of a token or an error
_CERTIFICATES = ("~/.config/containers/certs.d", "/etc/containers/certs.d", "/etc/docker/certs.d")

_WANTS = "it wants a certificate"
# What OpenSSL calls an answer in HTTP, and how it ends what a server says that wants to see a certificate.
_NO_TLS, _WANTS_ONE = "WRONG_VERSION_NUMBER", ("CERTIFICATE_REQUIRED", "BAD_CERTIFICATE")

Body = Callable[[], "bytes | IO[bytes]"]


class Client:
    """A repository.

    Args:
        reference: an image in it.
        verify: whether the registry must be who it says; without, it may also speak HTTP alone.
        actions: `pull` or `pull,push`.
    """

    def __init__(self, reference: Reference, *, verify: bool, actions: str) -> None:
        self.reference = reference
        self._verify = verify
        self._scope = f"repository:{reference.repository}:{actions}"
        self._authorization: str | None = None
        self._lock = threading.Lock()
        self._pool = _pool(reference.server, verify)
        self._base = f"https://{reference.server}"
        if not verify and self._speaks_http():
            self._base = f"http://{reference.server}"

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.clear()

    def request(
        self, method: str, path: str, *, headers: Mapping[str, str] | None = None, body: Body | None = None
    ) -> BaseHTTPResponse:
        """Send a request; the answer's body is still to be read, or released.

        Args:
            method: of HTTP.
            path: below the repository, or a whole address that the registry gave.
            headers: more of them.
            body: called for each attempt.

        Raises:
            RegistryFailed: it can't be reached.
            AccessDenied: it wants other credentials.
            NotFound, BadInput: it said so.
        """
        url = path if "://" in path else f"{self._base}/v2/{self.reference.repository}/{path}"
        ours = urlsplit(url)[:2] == urlsplit(self._base)[:2]
        for attempt in (0, 1):
            authorization = self._authorization if ours else None
            sent = {**(headers or {}), **({"Authorization": authorization} if authorization else {})}
            response = self._send(method, url, sent, body() if body else None)
            if response.status != 401 or attempt or not ours:
                break
            challenges = response.headers.getlist("WWW-Authenticate")
            response.drain_conn()
            with self._lock:
                if self._authorization == authorization:  # else another thread was faster
                    self._authorization = self._authorize(challenges)
        if response.status >= 400 and response.status != 416:
            raise self._error(response)
        return response

    def absolute(self, location: str) -> str:
        """An address that the registry gave, which may be a path."""
        return urljoin(self._base, location)

    def read(self, response: BaseHTTPResponse, limit: int) -> bytes:
        """All of an answer. Raises BadInput if it is larger than `limit` bytes."""
        try:
            data = response.read(limit + 1)
        except HTTPError as e:
            raise self._unreachable(e) from None
        finally:
            response.release_conn()
        if len(data) > limit:
            raise BadInput(f"{self.reference}: the registry's answer has more than {limit} bytes")
        return data

    def _send(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes | IO[bytes] | None
    ) -> BaseHTTPResponse:
        is_safe = method in ("GET", "HEAD")
        retries = urllib3.Retry(
            total=8,
            connect=2,
            read=2 if is_safe else 0,
            redirect=5 if is_safe else 0,
            status=3,
            other=0,
            status_forcelist=(429, 502, 503, 504),
            allowed_methods=("GET", "HEAD"),
            backoff_factor=0.3,
            respect_retry_after_header=False,  # it may name hours
            raise_on_status=False,
        )
        agent = {"User-Agent": f"podium/{__version__}", "Accept-Encoding": "identity"}
        try:
            return self._pool.request(
                method,
                url,
                body=body,
                headers={**agent, **headers},
                retries=retries,
                redirect=is_safe,
                preload_content=False,
            )
        except HTTPError as e:
            raise self._unreachable(e) from None

    def _speaks_http(self) -> bool:
        """Whether there is no TLS, which is looked for first."""
        try:
            self._pool.request("GET", f"{self._base}/v2/", retries=False, redirect=False).drain_conn()
        except (SSLError, NewConnectionError):
            return True
        except HTTPError as e:
            raise self._unreachable(e) from None
        return False

    def _authorize(self, challenges: list[str]) -> str:
        """The header for what the registry asks (RFC 9110, 11.3; distribution's token authentication)."""
        known = credentials.find(self.reference)
        offers = [challenge.strip().partition(" ") for challenge in challenges]
        for scheme, _, rest in offers:
            if scheme.lower() == "bearer":
                pairs = urllib.request.parse_keqv_list(urllib.request.parse_http_list(rest))
                return f"Bearer {self._token(pairs, known)}"
        if any(scheme.lower() == "basic" for scheme, _, _ in offers):
            if known is None or not known.user:
                raise AccessDenied(
                    f"{self.reference.host} wants a user and a password",
                    hint=f"'podman login {self.reference.host}' or 'skopeo login' keeps them where podium looks",
                    subject=str(self.reference),
                )
            return known.basic
        raise RegistryFailed(
            f"{self.reference.host} wants an authorization that podium does not know: {', '.join(challenges)[:160]}",
            subject=str(self.reference),
        )

    def _token(self, challenge: Mapping[str, str], known: credentials.Credentials | None) -> str:
        realm = challenge.get("realm", "")
        if not realm.startswith("https://") and (self._verify or not realm.startswith("http://")):
            raise RegistryFailed(
                f"{self.reference.host} sends to {realm[:160]!r} for a token, which is not protected by TLS",
                subject=str(self.reference),
            )
        asked = {"service": challenge.get("service", ""), "scope": self._scope}
        if known is not None and known.identity:
            form = {**asked, "grant_type": "refresh_token", "refresh_token": known.identity, "client_id": "podium"}
            headers = {"Content-Type": "application/x-www-form-urlencoded"}
            response = self._send("POST", realm, headers, urlencode(form).encode())
        else:
            query = ("&" if "?" in realm else "?") + urlencode(asked)
            response = self._send("GET", realm + query, {"Authorization": known.basic} if known else {}, None)
        if response.status >= 400:
            raise self._error(response)
        try:
            answer = json.loads(self.read(response, _MAX_ANSWER))
            token = answer.get("token") or answer["access_token"]
        except (ValueError, KeyError, AttributeError):
            raise RegistryFailed(f"{realm} gave no token", subject=str(self.reference)) from None
        return str(token)

    def _error(self, response: BaseHTTPResponse) -> PodiumError:
        told = _told(self.read(response, _MAX_ANSWER))
        name, status = str(self.reference), response.status
        detail = f": {told}" if told else ""
        if status in (401, 403):
            return AccessDenied(
                f"{self.reference.host} refuses access to {self.reference.repository} (HTTP {status}{detail})",
                hint=f"'podman login {self.reference.host}' or 'skopeo login' keeps credentials where podium looks",
                subject=name,
            )
        if status == 404:
            return NotFound(f"{name} is not there (HTTP 404{detail})", subject=name)
        return RegistryFailed(f"{name}: the registry failed (HTTP {status}{detail})", subject=name)

    def _unreachable(self, error: HTTPError) -> RegistryFailed:
        cause: BaseException = error
        if isinstance(error, MaxRetryError) and error.reason is not None:
            cause = error.reason
        hint, why, folder = None, _plain(cause), f"/etc/containers/certs.d/{self.reference.host}"
        if why == _WANTS:
            hint = f"put one into {folder}/client.cert, and its key into {folder}/client.key"
        elif isinstance(cause, SSLError):
            hint = (
                f"put the certificate of its authority into {folder}/ca.crt, or "
                "use --tls-verify=false for a registry that needs none"
            )
        return RegistryFailed(
            f"the registry {self.reference.host} can't be reached: {why}", hint=hint, subject=str(self.reference)
        )


def _plain(error: BaseException) -> str:
    """The innermost reason, without the objects, numbers and places in source code that libraries put into it."""
    inner = error.args[0] if isinstance(error, SSLError) and error.args else error
    reason = inner.__cause__ or inner.__context__ or inner if isinstance(inner, BaseException) else inner
    if isinstance(reason, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted: {reason.verify_message}"
    if isinstance(reason, ssl.SSLError) and reason.reason == _NO_TLS:
        return "it speaks no TLS"
    if isinstance(reason, ssl.SSLError) and str(reason.reason).endswith(_WANTS_ONE):
        return _WANTS
    if isinstance(reason, OSError) and not isinstance(reason, ssl.SSLError) and reason.strerror:
        return reason.strerror
    return str(reason).rpartition(">: ")[2][:300]


def _told(body: bytes) -> str:
    """What a registry says went wrong (distribution-spec, "Error codes")."""
    try:
        (first, *_) = json.loads(body)["errors"]
        return f"{first.get('code', '')} {first.get('message', '')}".strip()[:200]
    except (ValueError, KeyError, TypeError, AttributeError):
        return ""


def _pool(server: str, verify: bool) -> urllib3.PoolManager:
    if not verify:
        urllib3.disable_warnings(InsecureRequestWarning)  # it was asked for
    options: dict[str, Any] = {"ssl_context": _tls(server, verify), "timeout": _TIMEOUT, "maxsize": PARALLEL}
    proxies = urllib.request.getproxies_environment()
    proxy = proxies.get("https") or proxies.get("all")
    if proxy and not urllib.request.proxy_bypass(server):
        return urllib3.ProxyManager(proxy, **options)
    return urllib3.PoolManager(**options)


def _tls(server: str, verify: bool) -> ssl.SSLContext:
    """The system's authorities (SSL_CERT_FILE and SSL_CERT_DIR too), and those of containers-certs.d(5)."""
    context = ssl.create_default_context()
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    for base in _CERTIFICATES:
        folder = os.path.join(os.path.expanduser(base), server)
        try:
            names = sorted(os.listdir(folder))
        except OSError:
            continue
        for name in names:
            path = os.path.join(folder, name)
            try:
                if name.endswith(".crt"):
                    context.load_verify_locations(path)
                elif name.endswith(".cert"):
                    context.load_cert_chain(path, path.removesuffix(".cert") + ".key")
            except (OSError, ssl.SSLError) as e:
                raise BadInput(f"the certificate {path} can't be used: {e}", subject=path) from None
    return context
