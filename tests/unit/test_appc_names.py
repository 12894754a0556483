from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from podium.appc import names
from podium.errors import BadInput

HEX64, HEX128 = "0123456789abcdef" * 4, "0123456789abcdef" * 8


@pytest.mark.parametrize("text", ["a", "asdf", "foo-bar-baz", "database", "7", "0-9", "a--b"])
def test_appc_ac_name_good(text: str) -> None:
    assert names.is_ac_name(text)
    assert names.is_ac_identifier(text)


@pytest.mark.parametrize(
    "text", ["", "foo#", "example.com", "EXAMPLE", "a/b", "a_b", "/app", "app/", "-app", "app-", "app\n", "ä", "a\0"]
)
def test_appc_ac_name_bad(text: str) -> None:
    assert not names.is_ac_name(text)


@pytest.mark.parametrize(
    "text",
    ["database", "example.com/database", "example.com/~user/app_v1", "sub-domain.example.com/org/product/release"],
)
def test_appc_identifier_good(text: str) -> None:
    assert names.is_ac_identifier(text)


@pytest.mark.parametrize("text", ["", "foo#", "EXAMPLE.com", "a:b", "/app", "app/", ".app", "app~", "_a", "a b", "a\n"])
def test_appc_identifier_bad(text: str) -> None:
    assert not names.is_ac_identifier(text)


@pytest.mark.parametrize("text", ["0.8.11", "1.0.0", "0.8.11+git", "1.2.3-rc.1+b.2", "1.0.0-alpha-a.b-c", "10.20.30"])
def test_appc_semver_good(text: str) -> None:
    assert names.is_semver(text)


@pytest.mark.parametrize(
    "text", ["", "1", "1.2", "1.2.3.4", "01.2.3", "v1.2.3", "1.2.3-", "1.2.3+", "1.2.3-01", "1.2.x", "1.2.3-ä", "١.2.3"]
)
def test_appc_semver_bad(text: str) -> None:
    assert not names.is_semver(text)


def test_appc_version_must_be_of_the_known_series() -> None:
    assert names.ac_version_fault("0.5.1") is None
    assert names.ac_version_fault("0.99.0+git") is None
    assert "0.x series" in str(names.ac_version_fault("1.0.0"))
    assert "0.0.0" in str(names.ac_version_fault("0.0.0"))


@pytest.mark.parametrize("text", [f"sha512-{HEX128}", f"sha512-{HEX64}", f"sha256-{HEX64}", f"sha512-{HEX64[:12]}"])
def test_appc_image_id_good(text: str) -> None:
    assert names.is_image_id(text)
    podium = names.to_podium_id(text)
    assert podium == text.replace("-", ":")
    assert names.is_podium_id(podium)
    assert names.to_appc_id(podium) == text
    assert names.to_podium_id(podium) == podium
    assert names.to_appc_id(text) == text


@pytest.mark.parametrize(
    "text",
    ["", "sha512-", "sha512-...", f"md5-{HEX64[:32]}", f"sha256-{HEX64[:63]}", f"sha512-{HEX128}0", HEX64]
    + [f"sha256-{HEX64.upper()}", f"sha256-{HEX64}\n", f"sha256--{HEX64[:63]}"],
)
def test_appc_image_id_bad(text: str) -> None:
    assert not names.is_image_id(text)
    with pytest.raises(BadInput):
        names.to_podium_id(text)


@pytest.mark.parametrize(
    ("text", "name", "identifier"),
    [
        ("Foo_Bar:1.0", "foo-bar-1-0", "foo_bar-1.0"),
        ("docker.io/library/busybox", "docker-io-library-busybox", "docker.io/library/busybox"),
        ("localhost:5000/Foo", "localhost-5000-foo", "localhost-5000/foo"),
        ("--a__b--", "a-b", "a_b"),
        ("/var/lib/Data", "var-lib-data", "var/lib/data"),
    ],
)
def test_appc_sanitize(text: str, name: str, identifier: str) -> None:
    assert names.sanitize_name(text) == name
    assert names.sanitize_identifier(text) == identifier


@given(st.text())
def test_appc_sanitized_names_are_legal_and_stay(text: str) -> None:
    for sanitize, legal in (
        (names.sanitize_name, names.is_ac_name),
        (names.sanitize_identifier, names.is_ac_identifier),
    ):
        try:
            result = sanitize(text)
        except BadInput:
            assert not any(c in "abcdefghijklmnopqrstuvwxyz0123456789" for c in text.lower())
        else:
            assert legal(result)
            assert sanitize(result) == result
