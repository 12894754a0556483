"""Names of images, numbers and times of tar headers, compressed streams: what is accepted, and what it means."""

from __future__ import annotations

import gzip
import io

import pytest

from hostile.tarfiles import END, entry, header, number, pax
from podium.errors import BadInput
from podium.store.limits import Limits
from podium.store.naming import split, split_name
from podium.store.unpack.streams import decompressed
from podium.store.unpack.tar import Entry, Reader

LIMITS = Limits()


def entries(data: bytes) -> list[Entry]:
    return list(Reader(io.BytesIO(data), LIMITS))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("busybox", ("busybox", "latest")),
        ("busybox:1.36", ("busybox", "1.36")),
        ("host.example:5000/a/b", ("host.example:5000/a/b", "latest")),
        ("host.example:5000/a/b:v1", ("host.example:5000/a/b", "v1")),
    ],
)
def test_names_split_at_the_tag(text: str, expected: tuple[str, str]) -> None:
    assert split_name(text) == expected


@pytest.mark.parametrize(
    "text",
    ["", ":", "a:", ":b", "/a", "a/", "a//b", "a/../b", "a b", "a:b/c:", "a:b:c", "h:1/a:b:c", "ä", "a\n", "x" * 600],
)
def test_what_is_no_name_is_refused(text: str) -> None:
    with pytest.raises(BadInput):
        split_name(text)


def test_a_port_is_no_tag() -> None:
    assert split("h:5000/a") == ("h:5000/a", None)


@pytest.mark.parametrize("value", [0, 1, 0o7777777, 0o10000000, (1 << 32) - 2])
def test_numbers_octal_and_base_256(value: int) -> None:
    (found,) = entries(header("x", uid=value, gid=value) + END)
    assert (found.uid, found.gid) == (value, value)


@pytest.mark.parametrize(
    ("text", "nanoseconds"),
    [
        ("0", 0),
        ("1700000000", 1_700_000_000_000_000_000),
        ("1.5", 1_500_000_000),
        ("1.123456789123", 1_123_456_789),
        ("-1.25", -1_250_000_000),
        ("-0.5", -500_000_000),
    ],
)
def test_pax_times_are_exact(text: str, nanoseconds: int) -> None:
    (found,) = entries(pax({"mtime": text}) + header("x") + END)
    assert found.mtime == nanoseconds


def test_negative_time_in_base_256() -> None:
    (found,) = entries(header("x", mtime=-5) + END)
    assert found.mtime == -5_000_000_000
    assert number(-5, 12)[0] == 0xFF


def test_global_headers_hold_for_all_and_local_ones_win() -> None:
    data = pax({"uid": "7"}, "g") + header("a") + pax({"uid": "8"}) + header("b") + header("c") + END
    assert [e.uid for e in entries(data)] == [7, 8, 7]


def test_attributes_of_both_spellings() -> None:
    data = pax([("SCHILY.xattr.user.a=b", b"\0\n"), ("LIBARCHIVE.xattr.user%2ec", "aGk")]) + header("x") + END
    with pytest.raises(BadInput):
        entries(pax({"size": "1_0"}) + header("x") + END)
    (found,) = entries(data.replace(b"user.a=b=", b"user.a_b="))
    assert found.xattrs == {"user.a_b": b"\0\n", "user.c": b"hi"}


def test_archive_may_end_without_zeros_but_not_inside_an_entry() -> None:
    assert [e.name for e in entries(entry("a", b"1"))] == ["a"]
    with pytest.raises(BadInput):
        entries(entry("a", b"1" * 600)[:-512])


def test_content_comes_whole_or_is_leapt_over() -> None:
    reader = Reader(io.BytesIO(entry("a", b"a" * 3000) + entry("b", b"b" * 10) + END), LIMITS)
    found = {e.name: b"".join(reader.content()) if e.name == "b" else b"" for e in reader}
    assert found == {"a": b"", "b": b"b" * 10}


def test_gzip_members_are_one_stream() -> None:
    data = gzip.compress(b"a" * 10) + gzip.compress(b"b" * 10) + bytes(100)
    source, found = decompressed(io.BytesIO(data), LIMITS), b""
    while chunk := source.read(3):
        assert len(chunk) <= 3
        found += chunk
    assert found == b"a" * 10 + b"b" * 10
