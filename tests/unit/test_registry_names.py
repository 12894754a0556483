"""Addresses of images in registries, and where their credentials are found."""

from __future__ import annotations

import base64
import json
import os
from pathlib import Path

import pytest

from podium.errors import BadInput, BadUsage, Failed
from podium.images.registry import credentials
from podium.images.registry.reference import parse

DIGEST = "sha256:" + "a" * 64


@pytest.mark.parametrize(
    ("text", "host", "repository", "version", "name"),
    [
        ("h.example/web", "h.example", "web", "latest", "h.example/web:latest"),
        ("h:5000/a/b.c/d_e:1.2", "h:5000", "a/b.c/d_e", "1.2", "h:5000/a/b.c/d_e:1.2"),
        (f"h/a@{DIGEST}", "h", "a", DIGEST, f"h/a@{DIGEST}"),
        (f"h/a:1@{DIGEST}", "h", "a", DIGEST, f"h/a@{DIGEST}"),
        ("[::1]:5000/a:x", "[::1]:5000", "a", "x", "[::1]:5000/a:x"),
        ("docker.io/busybox", "docker.io", "library/busybox", "latest", "docker.io/library/busybox:latest"),
    ],
)
def test_addresses(text: str, host: str, repository: str, version: str, name: str) -> None:
    found = parse(f"docker://{text}")
    assert (found.host, found.repository, found.version, found.name) == (host, repository, version, name)
    assert str(found) == f"docker://{name}"


@pytest.mark.parametrize(
    "text",
    ["", "docker://", "docker://box", "h/a", "docker:///a", "docker://h/", "docker://h/A", "docker://h/a:", "docker://h/a/../b",
     "docker://h/a@md5:00", f"docker://h/a@{DIGEST}0", "docker://h/-a", "docker://h x/a", "docker://u@h/a", "docker://h/a:b/c",
     "docker://h/a//b", "docker://h/a?b"],
)  # fmt: skip
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(BadUsage, match=r"names no image|docker://"):
        parse(text)


def _entry(user: str, password: str) -> dict[str, str]:
    return {"auth": base64.b64encode(f"{user}:{password}".encode()).decode()}


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("REGISTRY_AUTH_FILE", "XDG_CONFIG_HOME", "DOCKER_CONFIG"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "run"))
    return tmp_path


def _write(path: Path, content: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content))


def test_the_closest_entry_counts(home: Path) -> None:
    auths = {"h": _entry("host", "1"), "h/team": _entry("team", "2:3"), "h/team/web/deeper": _entry("x", "4")}
    _write(home / ".config/containers/auth.json", {"auths": auths})
    found = credentials.find(parse("docker://h/team/web"))
    assert found is not None and (found.user, found.password) == ("team", "2:3")
    other = credentials.find(parse("docker://h/teams"))
    assert other is not None and other.user == "host"
    assert credentials.find(parse("docker://elsewhere/a")) is None


def test_files_in_their_order(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reference = parse("docker://h/a")
    later_counts = (".docker/config.json", ".config/containers/auth.json", "run/containers/auth.json")
    for path in later_counts:
        user = path.partition("/")[0]
        _write(home / path, {"auths": {"https://h/v1/": _entry(user, "x")}})
        found = credentials.find(reference)
        assert found is not None and found.user == user
    _write(home / "mine.json", {"auths": {}})
    monkeypatch.setenv("REGISTRY_AUTH_FILE", str(home / "mine.json"))
    assert credentials.find(reference) is None


def test_identity_tokens_and_helpers(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = home / "bin/docker-credential-test"
    answer = json.dumps({"Username": "<token>", "Secret": "s"})
    refusal = '{ echo "credentials not found"; exit 1; }'
    _write(script, f"#!/bin/sh\nread host; [ \"$host\" = h ] || {refusal}\necho '{answer}'\n")
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{home}/bin:{os.environ['PATH']}")
    _write(home / ".docker/config.json", {"credHelpers": {"h": "test"}, "credsStore": "test"})
    found = credentials.find(parse("docker://h/a"))
    assert found is not None and (found.user, found.identity) == ("", "s")
    assert credentials.find(parse("docker://other/a")) is None
    _write(home / ".docker/config.json", {"credHelpers": {"h": "missing"}})
    with pytest.raises(Failed, match="docker-credential-missing"):
        credentials.find(parse("docker://h/a"))
    _write(home / ".docker/config.json", {"auths": {"h": {"identitytoken": "t"}}})
    found = credentials.find(parse("docker://h/a"))
    assert found is not None and found.identity == "t"


@pytest.mark.parametrize(
    "content", ["no json", "[]", {"auths": {"h": {"auth": "?"}}}, {"auths": {"h": {"auth": "YQ=="}}}]
)
def test_files_that_are_damaged(content: object, home: Path) -> None:
    _write(home / ".docker/config.json", content)
    with pytest.raises(BadInput, match=r"config\.json"):
        credentials.find(parse("docker://h/a"))
