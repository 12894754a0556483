"""Debian's docker-registry on 127.0.0.1, with TLS, users or a token server; and a proxy that watches and disturbs."""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import os
import select
import socket
import ssl
import subprocess
import threading
import time
import urllib.parse
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

HOST = "127.0.0.1"
USER, PASSWORD = "alice", "secret"
# `htpasswd -Bbn alice secret`
_HTPASSWD = "alice:$2y$05$iLv6sIRWQQNZXonblTfDg.p9.1qQfb1byS4I6UOfw/denRPbB.XA.\n"
_PATIENCE = 20.0  # seconds
_SMALL = 20_000  # bytes


def free_port() -> int:
    with socket.socket() as s:
        s.bind((HOST, 0))
        return int(s.getsockname()[1])


class Authority:
    """A certificate authority of the test, and a certificate of 127.0.0.1.

    Attributes:
        ca, cert, key: files.
    """

    def __init__(self, folder: str) -> None:
        os.makedirs(folder, exist_ok=True)
        self.ca, self.cert, self.key = (os.path.join(folder, n) for n in ("ca.crt", "server.crt", "server.key"))
        ca_key = os.path.join(folder, "ca.key")
        new = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "3650"]
        leaf = ["-CA", self.ca, "-CAkey", ca_key, "-addext", "basicConstraints=critical,CA:FALSE"]
        san = ["-addext", f"subjectAltName=IP:{HOST},DNS:localhost"]
        for argv in (
            [*new, "-subj", "/CN=CA of the test", "-keyout", ca_key, "-out", self.ca],
            [*new, "-subj", f"/CN={HOST}", "-keyout", self.key, "-out", self.cert, *leaf, *san],
        ):
            subprocess.run(argv, check=True, capture_output=True)


class Registry:
    """A docker-registry.

    Attributes:
        host: with port.
    """

    def __init__(
        self,
        folder: str,
        authority: Authority | None = None,
        auth: dict[str, Any] | None = None,
        *,
        clients: Authority | None = None,
    ) -> None:
        os.makedirs(os.path.join(folder, "data"))
        self.port = free_port()
        self.host = f"{HOST}:{self.port}"
        web: dict[str, Any] = {"addr": self.host, "secret": "of the test"}
        if authority is not None:
            web["tls"] = {"certificate": authority.cert, "key": authority.key}
            if clients is not None:  # whose certificates it wants to see
                web["tls"]["clientcas"] = [clients.ca]
        config = {
            "version": "0.1",
            "log": {"level": "warn"},
            "storage": {"filesystem": {"rootdirectory": os.path.join(folder, "data")}},
            "http": web,
            **({"auth": auth} if auth else {}),
        }
        path = os.path.join(folder, "config.yml")
        with open(path, "w", encoding="utf-8") as f:
            json.dump(config, f)  # YAML has JSON in it
        self._log = open(os.path.join(folder, "log"), "wb")  # noqa: SIM115  (closed by close)
        self._process = subprocess.Popen(
            ["docker-registry", "serve", path], stdin=subprocess.DEVNULL, stdout=self._log, stderr=self._log
        )
        deadline = time.monotonic() + _PATIENCE
        while True:
            with contextlib.suppress(OSError), socket.create_connection((HOST, self.port), 1):
                return
            assert self._process.poll() is None and time.monotonic() < deadline, "the registry does not start"
            time.sleep(0.02)

    def close(self) -> None:
        """End it."""
        self._process.terminate()
        self._process.wait()
        self._log.close()


def users(folder: str) -> dict[str, Any]:
    """`auth` of a registry that knows USER."""
    path = os.path.join(folder, "htpasswd")
    with open(path, "w", encoding="ascii") as f:
        f.write(_HTPASSWD)
    return {"htpasswd": {"realm": "test", "path": path}}


def auth_file(path: str, host: str, user: str = USER, password: str = PASSWORD) -> str:
    """A containers-auth.json with one entry. Returns its path."""
    entry = {"auth": base64.b64encode(f"{user}:{password}".encode()).decode()}
    with open(path, "w", encoding="ascii") as f:
        json.dump({"auths": {host: entry}}, f)
    return path


@contextlib.contextmanager
def serving(handler: type[BaseHTTPRequestHandler], authority: Authority | None = None) -> Iterator[int]:
    """An HTTP server in threads of this process; its port."""
    server = ThreadingHTTPServer((HOST, 0), handler)
    if authority is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(authority.cert, authority.key)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextlib.contextmanager
def token_server(authority: Authority) -> Iterator[tuple[dict[str, Any], list[str]]]:
    """A server of tokens for USER; yields the `auth` of a registry that trusts it, and the scopes that were asked."""
    scopes: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            query = dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(self.path).query))
            expected = "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
            if self.headers.get("Authorization") != expected:
                return self._answer(401, {"errors": [{"code": "UNAUTHORIZED", "message": "who are you?"}]})
            scopes.append(query["scope"])
            return self._answer(200, {"token": _token(authority, query["service"], query["scope"])})

        def _answer(self, status: int, content: dict[str, Any]) -> None:
            data = json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            pass

    with serving(Handler, authority) as port:
        realm = f"https://{HOST}:{port}/token"
        yield (
            {"token": {"realm": realm, "service": "test", "issuer": "tests", "rootcertbundle": authority.ca}},
            scopes,
        )


def _token(authority: Authority, service: str, scope: str) -> str:
    kind, name, actions = scope.split(":")
    with open(authority.cert, encoding="ascii") as f:
        der = "".join(f.read().split("-----")[2].split())
    now = int(time.time())
    claims = {
        "iss": "tests", "sub": USER, "aud": service, "exp": now + 300, "nbf": now - 10, "iat": now, "jti": str(now),
        "access": [{"type": kind, "name": name, "actions": actions.split(",")}],
    }  # fmt: skip
    parts = [_base64url(json.dumps(part).encode()) for part in ({"typ": "JWT", "alg": "RS256", "x5c": [der]}, claims)]
    signed = ".".join(parts)
    sign = ["openssl", "dgst", "-sha256", "-sign", authority.key]
    done = subprocess.run(sign, input=signed.encode(), capture_output=True, check=True)
    return f"{signed}.{_base64url(done.stdout)}"


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


@contextlib.contextmanager
def tunnel() -> Iterator[tuple[str, list[str]]]:
    """A proxy that lets TLS through (CONNECT of RFC 9110); yields its address, and who was asked for."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_CONNECT(self) -> None:
            asked.append(self.path)
            host, _, port = self.path.rpartition(":")
            with socket.create_connection((host, int(port)), _PATIENCE) as there:
                self.send_response(200)
                self.end_headers()
                _pump(self.connection, there)
            self.close_connection = True

        def log_message(self, *_: object) -> None:
            pass

    with serving(Handler) as port:
        yield f"http://{HOST}:{port}", asked


def _pump(one: socket.socket, other: socket.socket) -> None:
    """Pass on what each says, until one of them ends."""
    peers = {one: other, other: one}
    while True:
        for ready in select.select([*peers], [], [], _PATIENCE)[0]:
            data = ready.recv(1 << 16)
            if not data:
                return
            peers[ready].sendall(data)


class Proxy:
    """What stands before a registry without TLS.

    Attributes:
        log: `METHOD path [range]` of each request, in order.
        cuts: after how many bytes each of the next answers with a blob that is not small is cut off.
        spoil: whether the bytes of blobs are altered.
        go_on: while it is not set, answers with blobs that are not small stop halfway.
        host: with port.
    """

    def __init__(self, registry: Registry) -> None:
        self.registry = registry
        self.log: list[str] = []
        self.cuts: list[int] = []
        self.spoil = False
        self.go_on = threading.Event()
        self.go_on.set()
        self.host = ""

    def blobs(self, method: str = "GET") -> list[str]:
        """The digests of the blobs that were asked for."""
        return [
            line.split()[1].rpartition("/")[2] for line in self.log if line.startswith(method) and "/blobs/" in line
        ]


@contextlib.contextmanager
def watched(registry: Registry) -> Iterator[Proxy]:
    """A proxy before a registry."""
    proxy = Proxy(registry)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _forward(self) -> None:
            wanted = self.headers.get("Range", "")
            proxy.log.append(f"{self.command} {self.path} {wanted}".strip())
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            headers = {k: v for k, v in self.headers.items() if k.lower() != "connection"}
            there = http.client.HTTPConnection(HOST, registry.port)
            try:
                there.request(self.command, self.path, body, headers)
                answer = there.getresponse()
                self._pass_on(answer, answer.read())
            finally:
                there.close()

        def _pass_on(self, answer: http.client.HTTPResponse, data: bytes) -> None:
            self.send_response(answer.status)
            for key, value in answer.getheaders():
                if key.lower() not in ("transfer-encoding", "connection", "date", "server"):
                    self.send_header(key, value)
            self.end_headers()
            if "/blobs/sha256:" in self.path and self.command == "GET":
                if proxy.spoil:
                    data = bytes(b ^ 1 for b in data[:1]) + data[1:]
                if not proxy.go_on.is_set() and len(data) > _SMALL:
                    self.wfile.write(data[: len(data) // 2])
                    proxy.go_on.wait(_PATIENCE)
                    self.close_connection = True
                    return
                if proxy.cuts and len(data) > max(proxy.cuts[0], _SMALL):
                    self.wfile.write(data[: proxy.cuts.pop(0)])
                    self.close_connection = True
                    return
            self.wfile.write(data)

        do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = _forward

        def log_message(self, *_: object) -> None:
            pass

    with serving(Handler) as port:
        proxy.host = f"{HOST}:{port}"
        yield proxy
