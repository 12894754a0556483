from __future__ import annotations

import json
import tracemalloc
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from podium.appc.image_manifest import ImageManifest
from podium.appc.lastditch import LastditchApp, LastditchPod, lastditch_image, lastditch_pod
from podium.appc.pod_manifest import PodManifest
from podium.appc.salvage import SCAN_BYTES, Salvage, describe, salvage
from podium.errors import BadInput

ID_A, ID_B = "sha256-" + "0a" * 32, "sha512-" + "1b" * 64
UUID = "6f0b3d0a-1c5e-4d53-9f1e-0123456789ab"
POD: dict[str, Any] = {
    "acVersion": "0.8.11",
    "acKind": "PodManifest",
    "apps": [
        {
            "name": "web",
            "image": {"name": "example.com/web", "id": ID_A, "labels": [{"name": "version", "value": "1"}]},
            "app": {"exec": ["/bin/web"], "user": "0", "group": "0", "environment": [{"name": "A", "value": "name"}]},
        },
        {"name": "db", "image": {"name": "example.com/db", "id": ID_B}},
    ],
    "annotations": [{"name": "podium/uuid", "value": UUID}],
}
TEXT = json.dumps(POD, indent=1).encode()


def test_appc_lastditch_pod_takes_what_is_odd() -> None:
    odd = {
        "acKind": "PodManifest",
        "acVersion": "99",
        "apps": [
            {"name": "Web!", "image": {"name": "EX", "id": "md5-1", "labels": [{"name": "v", "value": 1}, 7, {}]}},
            {"name": 3, "image": []},
            "no app",
            {"image": {"id": ID_A}},
        ],
        "volumes": "none",
    }
    assert lastditch_pod(odd) == LastditchPod(
        (
            LastditchApp("Web!", "EX", "md5-1", {"v": ""}),
            LastditchApp("", "", "", {}),
            LastditchApp("", "", ID_A, {}),
        ),
        "99",
    )
    assert lastditch_pod({"acKind": "PodManifest", "apps": {}}) == LastditchPod((), "")


def test_appc_lastditch_image_takes_what_is_odd() -> None:
    data = b'\xef\xbb\xbf{"acKind":"ImageManifest","name":"x","name":"\xe9","labels":[{"name":"os"}],"n":NaN}\0\0'
    image = lastditch_image(data)
    assert (image.name, image.labels, image.ac_version) == ("\N{REPLACEMENT CHARACTER}", {"os": ""}, "")
    assert lastditch_image(b'{"acKind":"ImageManifest","n":' + b"9" * 5000 + b"}").name == ""


@pytest.mark.parametrize("data", [b"", b"[]", b"3", b"{}", b'{"acKind":"X"}', b'{"acKind":["PodManifest"]}', TEXT[:-3]])
def test_appc_lastditch_wants_an_object_of_its_kind(data: bytes) -> None:
    for read in (lastditch_image, lastditch_pod):
        with pytest.raises(BadInput):
            read(data)


def test_appc_lastditch_text_is_safe_to_print() -> None:
    pod = lastditch_pod(b'{"acKind":"PodManifest","apps":[{"name":"a\\u001b[31m\\ud800\\n"}]}')
    assert pod.apps[0].name == "a\N{REPLACEMENT CHARACTER}[31m" + "\N{REPLACEMENT CHARACTER}" * 2


def test_appc_salvage_of_every_truncation_finds_what_is_still_there() -> None:
    for end in range(len(TEXT)):
        found = salvage(TEXT[:end])
        assert found.fault
        assert found.line >= 1
        part = TEXT[:end].decode()
        if '"0.8.11"' in part:
            assert found.ac_version == "0.8.11"
        if '"PodManifest"' in part:
            assert found.ac_kind == "PodManifest"
        if '"web",' in part:
            assert "web" in found.names
        if '"db",' in part:
            assert found.names == ("web", "db")
            assert found.image_names[0] == "example.com/web"
        if f'"{ID_B}"' in part:
            assert found.ids == (ID_A, ID_B)
        if f'"{UUID}"' in part:
            assert found.uuids == (UUID,)


DAMAGED = {
    "empty": b"",
    "NUL": b"\0" * 4096,
    "NUL in the middle": TEXT.replace(b'"group"', b"\0" * 7),
    "trailing NUL": TEXT[:-2] + b"\0" * 100,
    "latin-1": TEXT[:-2].replace(b"/bin/web", b"/bin/w\xe9b"),
    "UTF-16": TEXT.decode().encode("utf-16")[:-4],
    "no comma": TEXT.replace(b",", b"", 5),
    "twice": TEXT + TEXT,
    "single quotes": TEXT.replace(b'"user"', b"'user'"),
    "deep": TEXT[:-2] + b',"x":' + b"[" * 200_000,
    "quotes": b'"' * 300_000,
    "escaped quotes": b'"' + b'\\"' * 300_000,
    "backslashes": b'"' + b"\\" * 300_000,
    "hex": b"ab" * 400_000,
    "dashes": b"sha512-" * 100_000,
    "long text": TEXT[:-2] + b',"x":"' + b"y" * 2_000_000,
}


@pytest.mark.parametrize("name", DAMAGED)
def test_appc_salvage_of_damage(name: str) -> None:
    found = salvage(DAMAGED[name])
    assert found.fault.isprintable()
    assert (found.fault != "") == (found != found._replace(fault=""))
    level, what = describe(DAMAGED[name], "pod")
    assert level == "salvage"
    assert isinstance(what, Salvage)
    if b"PodManifest" in DAMAGED[name]:
        assert (what.ac_kind, what.names[0], what.image_names[0]) == ("PodManifest", "web", "example.com/web")
        assert what.ids == (ID_A, ID_B)
        assert what.uuids == (UUID,)
    if name == "UTF-16":
        assert what.names == ("web", "db")


def test_appc_salvage_tells_the_place_of_the_fault() -> None:
    found = salvage(b'{\n "acKind": "ImageManifest",\n "name": "example.com/x" oops\n}')
    assert (found.ac_kind, found.names, found.line, found.column) == ("ImageManifest", ("example.com/x",), 3, 26)
    assert salvage(b"{}").fault == ""
    assert salvage(b'{"a": 1, "a": 2}')._replace(fault="") == Salvage()


def test_appc_salvage_of_100_megabytes_reads_only_the_first() -> None:
    data = TEXT[:-2] + b',"x":"' + b"y" * (100 << 20)
    tracemalloc.start()
    level, what = describe(data, "pod")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert level == "salvage"
    assert isinstance(what, Salvage)
    assert what.names == ("web", "db")
    assert "larger than" in what.fault
    assert peak < 16 * SCAN_BYTES


def test_appc_salvage_keeps_a_bounded_number() -> None:
    apps = b",".join(b'{"name":"a%d","image":{"id":"sha256-%064x"}}' % (i, i) for i in range(500))
    found = salvage(b'{"acKind":"PodManifest","apps":[' + apps)
    assert (len(found.names), len(found.ids)) == (64, 64)


def test_appc_describe_takes_the_best_level() -> None:
    level, what = describe(TEXT, "pod")
    assert level == "strict"
    assert isinstance(what, PodManifest)
    level, what = describe(TEXT.replace(b'"db"', b'"DB"'), "pod")
    assert level == "lastditch"
    assert isinstance(what, LastditchPod)
    assert [a.name for a in what.apps] == ["web", "DB"]
    assert what.fault.startswith("apps[1].name: 'DB' is not an AC name")
    level, what = describe(b'{"acKind":"ImageManifest","acVersion":"0.8.11","name":"a"}', "image")
    assert level == "strict"
    assert isinstance(what, ImageManifest)
    level, what = describe(TEXT, "image")
    assert level == "salvage"
    assert isinstance(what, Salvage)
    assert what.names == ("web", "db")
    assert what.fault.startswith("acKind: must be 'ImageManifest'")


@given(st.binary(max_size=200), st.integers(0, len(TEXT)), st.integers(0, 40))
def test_appc_levels_never_raise_on_any_bytes(noise: bytes, at: int, cut: int) -> None:
    for data in (noise, TEXT[:at] + noise + TEXT[at + cut :]):
        for kind in ("image", "pod"):
            level, what = describe(data, kind)
            assert level in ("strict", "lastditch", "salvage")
            if level != "strict":
                assert what.fault.isprintable()  # type: ignore[union-attr]
        salvage(data)


@given(st.recursive(st.none() | st.floats() | st.text(), lambda i: st.lists(i) | st.dictionaries(st.text(), i)))
def test_appc_lastditch_never_raises_for_odd_values(value: Any) -> None:
    for key in ("apps", "name", "labels", "acVersion"):
        data = {"acKind": "PodManifest", key: value}
        for given_ in (data, json.dumps(data).encode()):
            lastditch_pod(given_)
        lastditch_pod({"acKind": "PodManifest", "apps": [{key: value, "image": {key: value, "id": value}}]})
        lastditch_image({"acKind": "ImageManifest", key: value})
