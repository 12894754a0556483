from __future__ import annotations

import copy
import json
import sys
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from podium.appc.app import is_timestamp
from podium.appc.image_manifest import parse_image
from podium.appc.jsonread import MAX_BYTES, SyntaxFault
from podium.appc.pod_manifest import parse_pod
from podium.errors import BadInput, LimitExceeded

ID = "sha512-" + "ab" * 64

IMAGE: dict[str, Any] = {
    "acKind": "ImageManifest",
    "acVersion": "0.8.11",
    "name": "example.com/sorter",
    "labels": [
        {"name": "version", "value": "2.1.0"},
        {"name": "arch", "value": "amd64"},
        {"name": "os", "value": "linux"},
    ],
    "app": {
        "exec": ["/usr/bin/sorter", "--quiet"],
        "user": "100",
        "group": "300",
        "supplementaryGIDs": [400, 500],
        "eventHandlers": [
            {"name": "pre-start", "exec": ["/usr/bin/fetch"]},
            {"name": "post-stop", "exec": ["/usr/bin/leave", "--verbose"]},
        ],
        "workingDirectory": "/opt/work",
        "environment": [{"name": "SORTER_DEBUG", "value": "true"}, {"name": "A.b-c_1", "value": ""}],
        "isolators": [
            {"name": "resource/cpu", "value": {"request": "250m", "limit": "500m"}},
            {"name": "resource/memory", "value": {"request": "1G", "limit": "2G"}},
            {"name": "os/linux/capabilities-retain-set", "value": {"set": ["CAP_NET_BIND_SERVICE"]}},
        ],
        "mountPoints": [{"name": "work", "path": "/var/lib/work", "readOnly": True}],
        "ports": [
            {"name": "health", "port": 4000, "protocol": "tcp", "count": 1, "socketActivated": True},
            {"name": "data", "port": 20000, "protocol": "tcp", "count": 1000, "socketActivated": False},
        ],
        "userAnnotations": {"Any Key": "any value"},
        "userLabels": {"tier": "back"},
        "x-later": {"kept": [1]},
    },
    "dependencies": [
        {"imageName": "example.com/base", "imageID": ID, "labels": [{"name": "os", "value": "linux"}], "size": 22017258}
    ],
    "pathWhitelist": ["/etc/ca/crt", "/usr/bin/sorter"],
    "annotations": [
        {"name": "authors", "value": "Carly <c@example.com>"},
        {"name": "created", "value": "2014-10-27T19:32:27.67021798Z"},
        {"name": "homepage", "value": "https://example.com"},
        {"name": "appc.io/executor/supports-systemd-notify", "value": "false"},
    ],
    "x-unknown": "kept",
}

POD: dict[str, Any] = {
    "acVersion": "0.8.11",
    "acKind": "PodManifest",
    "apps": [
        {
            "name": "sorter",
            "image": {"name": "example.com/sorter", "id": ID, "labels": [{"name": "version", "value": "1.0.0"}]},
            "app": {
                "exec": ["/bin/sorter", "--data=/mnt/foo"],
                "user": "0",
                "group": "0",
                "mountPoints": [{"name": "work", "path": "/var/lib/work"}],
                "ports": [{"name": "ftp", "port": 21, "protocol": "tcp", "count": 1, "socketActivated": False}],
            },
            "readOnlyRootFS": True,
            "mounts": [{"volume": "worklib", "path": "/var/lib/work"}],
        },
        {
            "name": "backup",
            "image": {"id": ID},
            "mounts": [
                {"volume": "worklib", "path": "/mnt/bar"},
                {"volume": "own", "path": "/own", "appVolume": {"name": "own", "kind": "host", "source": "/srv"}},
            ],
            "annotations": [{"name": "foo", "value": "baz"}],
            "x-app": 1,
        },
        {"name": "register", "image": {"id": "sha256-" + "0" * 64, "x-image": None}},
    ],
    "volumes": [
        {"name": "worklib", "kind": "host", "source": "/opt/tenant1/work", "readOnly": True, "recursive": True},
        {"name": "scratch", "kind": "empty", "mode": "1777", "uid": 5, "gid": 6},
        {"name": "fast", "kind": "tmpfs", "mode": "0700", "uid": 0, "gid": 0, "size": "67108864"},
    ],
    "isolators": [{"name": "resource/memory", "value": {"limit": "4G"}}],
    "annotations": [{"name": "ip-address", "value": "10.1.2.3"}],
    "ports": [
        {"name": "ftp", "hostPort": 2121},
        {
            "name": "www",
            "hostPort": 80,
            "hostIP": "203.0.113.23",
            "podPort": {"name": "www", "port": 8080, "protocol": "tcp", "count": 1, "socketActivated": False},
        },
    ],
    "userAnnotations": {"Who": "me"},
    "userLabels": {"l": ""},
    "x-pod": [],
}


def altered(manifest: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    """A copy with `value` at a path such as `app.exec.0`; `...` takes the member away, a new index appends."""
    result = copy.deepcopy(manifest)
    node: Any = result
    *way, last = [int(k) if k.isdigit() else k for k in path.split(".")]
    for key in way:
        node = node[key]
    if value is ...:
        del node[last]
    elif isinstance(node, list) and last == len(node):
        node.append(value)
    else:
        node[last] = value
    return result


def test_appc_image_round_trip_loses_nothing() -> None:
    manifest = parse_image(json.dumps(IMAGE).encode())
    assert manifest.to_json() == IMAGE
    assert parse_image(manifest.to_json()) == manifest


def test_appc_image_values() -> None:
    manifest = parse_image(IMAGE)
    assert manifest.name == "example.com/sorter"
    assert manifest.labels == {"version": "2.1.0", "arch": "amd64", "os": "linux"}
    assert manifest.app is not None
    assert manifest.app.exec == ("/usr/bin/sorter", "--quiet")
    assert manifest.app.supplementary_gids == (400, 500)
    assert manifest.app.event_handlers["post-stop"] == ("/usr/bin/leave", "--verbose")
    assert manifest.app.environment == {"SORTER_DEBUG": "true", "A.b-c_1": ""}
    assert manifest.app.ports[1].span == 1000
    assert manifest.app.mount_points[0].read_only
    assert manifest.dependencies[0].size == 22017258
    assert manifest.path_whitelist == ("/etc/ca/crt", "/usr/bin/sorter")
    assert manifest.extra == {"x-unknown": "kept"}


def test_appc_pod_round_trip_loses_nothing() -> None:
    manifest = parse_pod(json.dumps(POD, indent=2).encode())
    assert manifest.to_json() == POD | {"apps": [*POD["apps"][:2], manifest.apps[2].to_json()]}
    assert manifest.apps[2].image.extra == {"x-image": None}
    assert parse_pod(manifest.to_json()) == manifest


def test_appc_pod_values() -> None:
    manifest = parse_pod(POD)
    assert [a.name for a in manifest.apps] == ["sorter", "backup", "register"]
    assert manifest.apps[0].read_only_rootfs
    own = manifest.apps[1].mounts[1].app_volume
    assert own is not None
    assert (own.source, own.recursive) == ("/srv", None)
    assert [v.mode for v in manifest.volumes] == [0o755, 0o1777, 0o700]
    assert manifest.volumes[2].size == 64 << 20
    assert manifest.ports[1].host_ip == "203.0.113.23"
    assert manifest.ports[1].pod_port is not None


def test_appc_small_manifests() -> None:
    small = {"acKind": "ImageManifest", "acVersion": "0.8.11", "name": "a"}
    assert parse_image(small).to_json() == small
    assert parse_pod({"acKind": "PodManifest", "acVersion": "0.8.11", "apps": []}).apps == ()


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("app.exec", ["sorter"]),  # looked up in PATH
        ("app.exec", ["bin/sorter"]),  # relative to the working folder
        ("app.exec", []),
        ("app.exec", ...),
        ("app.exec", None),
        ("app.exec.1", ""),
        ("app.user", "/usr/bin/ping"),
        ("app.workingDirectory", ""),
        ("app.mountPoints.0.path", "var/lib/work"),
        ("app.ports.0.count", 0),
        ("app.ports.0.protocol", "sctp"),
        ("app.ports.1", {"name": "last", "port": 65535, "protocol": "udp"}),
        ("labels", None),
        ("labels.1.value", "riscv64"),
        ("labels.2", {"name": "distribution", "value": "arch without os means nothing"}),
        ("dependencies.0.imageID", "sha512-0123456789abcdef"),
        ("acVersion", "0.5.1+git"),
        ("annotations.1.value", "2015-05-18T13:49:28.351729952-04:00"),
        ("app", ...),
    ],
)
def test_appc_image_legal(path: str, value: Any) -> None:
    manifest = parse_image(altered(IMAGE, path, value))
    assert parse_image(manifest.to_json()) == manifest


def test_appc_supplementary_gids_as_the_specifications_example_spells_them() -> None:
    manifest = altered(altered(IMAGE, "app.supplementaryGIDs", ...), "app.supplementaryGids", [7])
    app = parse_image(manifest).app
    assert app is not None
    assert app.supplementary_gids == (7,)
    assert "supplementaryGids" not in app.extra


BAD_IMAGE: list[tuple[str, Any, str]] = [
    ("acKind", ..., "acKind: is missing"),
    ("acKind", "PodManifest", "acKind: must be 'ImageManifest'"),
    ("acKind", 3, "acKind: must be a text, is a number"),
    ("acVersion", ..., "acVersion: is missing"),
    ("acVersion", "", "acVersion: '' is no version"),
    ("acVersion", "0.8", "acVersion: '0.8' is no version"),
    ("acVersion", "1.0.0", "acVersion: '1.0.0' is not of the 0.x series"),
    ("name", ..., "name: is missing"),
    ("name", "", "name: '' is not an AC identifier"),
    ("name", "Example.com/x", "name: 'Example.com/x' is not an AC identifier"),
    ("labels", {}, "labels: must be a list, is an object"),
    ("labels.0", "version", "labels[0]: must be an object, is a text"),
    ("labels.0.name", "name", "labels: a label must not be called 'name'"),
    ("labels.0.name", "os", "labels[2]: a second label 'os'"),
    ("labels.0.name", "Version", "labels[0].name:"),
    ("labels.0.value", 1, "labels[0].value: must be a text, is a number"),
    ("labels.0.value", ..., "labels[0].value: is missing"),
    ("labels.1.value", "x86_64", "labels: arch 'x86_64' is not one of"),
    ("labels.2.value", "plan9", "labels: os 'plan9' is not one of"),
    ("labels.2.value", "darwin", "labels: arch 'amd64' is not one of"),
    ("app", [], "app: must be an object, is a list"),
    ("app.exec", "/bin/sh", "app.exec: must be a list, is a text"),
    ("app.exec.0", "", "app.exec[0]: the command must not be empty"),
    ("app.exec.1", 7, "app.exec[1]: must be a text, is a number"),
    ("app.exec.1", None, "app.exec[1]: must be a text, is null"),
    ("app.exec.1", "a\0b", "app.exec[1]: has a NUL"),
    ("app.user", ..., "app.user: is missing"),
    ("app.user", "", "app.user: must not be empty"),
    ("app.user", 0, "app.user: must be a text"),
    ("app.group", ..., "app.group: is missing"),
    ("app.group", "", "app.group: must not be empty"),
    ("app.supplementaryGIDs.0", -1, "app.supplementaryGIDs[0]: must be from 0"),
    ("app.supplementaryGIDs.0", 2**32 - 1, "app.supplementaryGIDs[0]: must be from 0"),
    ("app.supplementaryGIDs.0", "7", "app.supplementaryGIDs[0]: must be a whole number"),
    ("app.supplementaryGIDs.0", 7.0, "app.supplementaryGIDs[0]: must be a whole number"),
    ("app.eventHandlers.0.name", "pre-stop", "app.eventHandlers[0]: 'pre-stop' is not one of"),
    ("app.eventHandlers.0.name", "post-stop", "app.eventHandlers[1]: a second event handler"),
    ("app.eventHandlers.0.exec", [], "app.eventHandlers[0]: exec must not be empty"),
    ("app.workingDirectory", "opt", "app.workingDirectory: 'opt' must be an absolute path"),
    ("app.environment", {"A": "b"}, "app.environment: must be a list"),
    ("app.environment.0.name", "", "app.environment[0].name: must not be empty"),
    ("app.environment.0.name", "1A", "app.environment[0]: '1A' is no name"),
    ("app.environment.0.name", "A=B", "app.environment[0]: 'A=B' is no name"),
    ("app.environment.0.name", "A B", "app.environment[0]: 'A B' is no name"),
    ("app.environment.0.name", "A.b-c_1", "app.environment[1]: a second environment variable"),
    ("app.environment.0.value", "\0", "app.environment[0].value: has a NUL"),
    ("app.mountPoints.0.name", "my.work", "app.mountPoints[0].name:"),
    ("app.mountPoints.0.path", "", "app.mountPoints[0].path: must not be empty"),
    ("app.mountPoints.0.readOnly", "no", "app.mountPoints[0].readOnly: must be a boolean"),
    ("app.ports.0.port", 0, "app.ports[0].port: must be from 1"),
    ("app.ports.0.port", 65536, "app.ports[0].port: must be from 1"),
    ("app.ports.0.port", "80", "app.ports[0].port: must be a whole number"),
    ("app.ports.0.count", -1, "app.ports[0].count: must be from 0"),
    ("app.ports.0.count", 61537, "app.ports[0]: 61537 ports from 4000 on end above 65535"),
    ("app.ports.0.protocol", ..., "app.ports[0].protocol: is missing"),
    ("app.ports.0.socketActivated", 1, "app.ports[0].socketActivated: must be a boolean"),
    ("app.isolators.0.value.limit", "?", "app.isolators[0].value.limit:"),
    ("app.userAnnotations.n", 1, "app.userAnnotations.n: must be a text"),
    ("app.userLabels", [], "app.userLabels: must be an object"),
    ("dependencies.0.imageName", ..., "dependencies[0].imageName: is missing"),
    ("dependencies.0.imageID", "sha512-...", "dependencies[0].imageID: 'sha512-...' is not an image id"),
    ("dependencies.0.size", -1, "dependencies[0].size: must be from 0"),
    ("pathWhitelist.0", "etc", "pathWhitelist[0]: 'etc' must be an absolute path"),
    ("annotations.1.value", "yesterday", "annotations: created 'yesterday' is no RFC 3339 time"),
    ("annotations.2.value", "ftp://x", "annotations: homepage 'ftp://x' is no http or https address"),
    ("annotations.0.name", "created", "annotations[1]: a second annotation"),
]


@pytest.mark.parametrize(("path", "value", "message"), BAD_IMAGE)
def test_appc_image_refused(path: str, value: Any, message: str) -> None:
    with pytest.raises(BadInput) as e:
        parse_image(altered(IMAGE, path, value))
    assert e.value.message.startswith(message)


BAD_POD: list[tuple[str, Any, str]] = [
    ("acKind", "ImageManifest", "acKind: must be 'PodManifest'"),
    ("apps", ..., "apps: is missing"),
    ("apps", {}, "apps: must be a list"),
    ("apps.1.name", "sorter", "apps[1]: a second app 'sorter'"),
    ("apps.1.name", "a.b", "apps[1].name: 'a.b' is not an AC name"),
    ("apps.2.image", ..., "apps[2].image: is missing"),
    ("apps.2.image.id", ..., "apps[2].image.id: is missing"),
    ("apps.2.image.id", "sha256:" + "0" * 64, "apps[2].image.id:"),
    ("apps.0.image.labels.0.name", "name", "apps[0].image.labels: a label"),
    ("apps.0.app.exec.0", 1, "apps[0].app.exec[0]: must be a text"),
    ("apps.0.readOnlyRootFS", "yes", "apps[0].readOnlyRootFS: must be a boolean"),
    ("apps.0.mounts.0.volume", ..., "apps[0].mounts[0].volume: is missing"),
    ("apps.0.mounts.0.path", "", "apps[0].mounts[0].path: must not be empty"),
    ("apps.1.mounts.1.appVolume.source", "srv", "apps[1].mounts[1].appVolume.source: 'srv' must be an absolute"),
    ("apps.1.annotations.1", {"name": "foo", "value": ""}, "apps[1].annotations[1]: a second annotation"),
    ("volumes.1.name", "worklib", "volumes[1]: a second volume 'worklib'"),
    ("volumes.0.kind", "nfs", "volumes[0].kind: 'nfs' is not one of host, empty, tmpfs"),
    ("volumes.0.source", ..., "volumes[0].source: is missing"),
    ("volumes.0.source", "opt", "volumes[0].source: 'opt' must be an absolute path"),
    ("volumes.0.mode", "0755", "volumes[0].mode: can't be set for a volume of kind host"),
    ("volumes.0.uid", 0, "volumes[0].uid: can't be set"),
    ("volumes.1.source", "/x", "volumes[1].source: can't be set for a volume of kind empty"),
    ("volumes.1.size", "1G", "volumes[1].size: can't be set for a volume of kind empty"),
    ("volumes.1.mode", "u+x", "volumes[1].mode: 'u+x' is no mode"),
    ("volumes.1.mode", "0888", "volumes[1].mode: '0888' is no mode"),
    ("volumes.1.mode", 755, "volumes[1].mode: must be a text"),
    ("volumes.1.uid", "root", "volumes[1].uid: must be a whole number"),
    ("volumes.2.size", "0", "volumes[2].size: must not be 0"),
    ("volumes.2.size", "many", "volumes[2].size: 'many' is no quantity"),
    ("isolators.1", {"name": "resource/memory", "value": {"limit": "1"}}, "isolators[1]: resource/memory is there"),
    ("ports.0.hostPort", 0, "ports[0].hostPort: must be from 1"),
    ("ports.0.hostPort", ..., "ports[0].hostPort: is missing"),
    ("ports.1.hostIP", "203.0.113", "ports[1].hostIP: '203.0.113' is no IPv4 address"),
    ("ports.1.hostIP", "1.2.3.0004", "ports[1].hostIP:"),
    ("ports.1.hostIP", "::1", "ports[1].hostIP:"),
    ("ports.1.podPort.port", 0, "ports[1].podPort.port: must be from 1"),
    ("userLabels.l", None, "userLabels.l: must be a text, is null"),
]


@pytest.mark.parametrize(("path", "value", "message"), BAD_POD)
def test_appc_pod_refused(path: str, value: Any, message: str) -> None:
    with pytest.raises(BadInput) as e:
        parse_pod(altered(POD, path, value))
    assert e.value.message.startswith(message)


def test_appc_port_that_two_apps_have_can_not_be_forwarded_by_name() -> None:
    twice = altered(POD, "apps.2.app", POD["apps"][0]["app"])
    with pytest.raises(BadInput, match=r"^ports\[0\]: the apps sorter, register all have a port 'ftp'"):
        parse_pod(twice)
    assert len(parse_pod(altered(twice, "ports.0", {"name": "other", "hostPort": 1})).apps) == 3


def test_appc_own_manifests_may_have_what_oci_images_have() -> None:
    manifest = altered(altered(IMAGE, "app.group", ""), "app.environment.0.name", "npm_config_@x:registry")
    app = parse_image(manifest, own=True).app
    assert app is not None
    assert (app.group, next(iter(app.environment))) == ("", "npm_config_@x:registry")
    with pytest.raises(BadInput):
        parse_image(manifest)


@pytest.mark.parametrize(
    ("data", "line", "column"),
    [
        (b"", 1, 1),
        (b"{", 1, 2),
        (b'{"a": 1,\n "b": }', 2, 7),
        (b'{"a": 1} x', 1, 10),
        (b"{'a': 1}", 1, 2),
        (b"\xef\xbb\xbf{}", 1, 1),
        (b'{\n"a": "\xe9"}', 2, 7),
        (b'{"a": "\n"}', 1, 8),
        (b"\0" * 10, 1, 1),
        # From Python 3.13 on it is the comma's place, not that of what follows.
        (b'{"a": 1,}', 1, 8 if sys.version_info >= (3, 13) else 9),
    ],
)
def test_appc_syntax_faults_have_their_place(data: bytes, line: int, column: int) -> None:
    for parse in (parse_image, parse_pod):
        with pytest.raises(SyntaxFault, match=f"at line {line}, column {column}$") as e:
            parse(data)
        assert (e.value.line, e.value.column) == (line, column)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b'{"a": 1, "b": {"c": 1, "c": 2}}', "the key 'c' twice"),
        (b'{"a": NaN}', "NaN is no JSON number"),
        (b'{"a": -Infinity}', "-Infinity is no JSON number"),
        (b'{"a": 1e999}', "1e999 is too large"),
        (b'{"a": "\\ud800"}', "half a surrogate pair"),
        (b'{"\\ud800": 1}', "half a surrogate pair"),
        (b'{"a": ' + b"9" * 5000 + b"}", "too many digits"),
        (b"[]", "the manifest: must be an object, is a list"),
        (b"null", "the manifest: must be an object, is null"),
    ],
)
def test_appc_improper_json_is_refused(data: bytes, message: str) -> None:
    with pytest.raises(BadInput) as e:
        parse_image(data)
    assert message in e.value.message


@pytest.mark.parametrize(
    "data",
    [
        b'{"a": ' * 65 + b"1" + b"}" * 65,
        b"[" * 100_000,
        b"[" * 3000 + b"]" * 3000,
        b" " * (MAX_BYTES + 1),
        b"[" + b"0," * 600_000 + b"0]",
    ],
    ids=["deep", "deeper", "closed", "large", "many"],
)
def test_appc_limits(data: bytes) -> None:
    with pytest.raises(BadInput) as e:
        parse_pod(data)
    assert isinstance(e.value, LimitExceeded)


def test_appc_values_that_are_not_json_are_refused() -> None:
    loop: dict[str, Any] = {}
    loop["loop"] = loop
    for value in ({1: 2}, {"a": object()}, {"a": float("nan")}, {"a": (1,)}, {"a": b""}, loop):
        with pytest.raises(BadInput):
            parse_image(value)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "legal"),
    [
        ("2014-10-27T19:32:27Z", True),
        ("2014-10-27t19:32:27.1z", True),
        ("0001-01-01T00:00:00Z", True),
        ("2016-12-31T23:59:60+05:30", True),
        ("2014-02-30T00:00:00Z", False),
        ("2014-10-27 19:32:27Z", False),
        ("2014-10-27T19:32:27", False),
        ("2014-10-27T24:00:00Z", False),
        ("2014-10-27", False),
        ("", False),
        ("2014-10-27T19:32:27Z\n", False),
    ],
)
def test_appc_timestamps(text: str, legal: bool) -> None:
    assert is_timestamp(text) is legal


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


def places(value: Any, at: str = "") -> list[str]:
    below = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [p for k, v in below for p in ([f"{at}{k}"] if "." not in str(k) else []) + places(v, f"{at}{k}.")]


@settings(max_examples=300)
@given(st.data(), JSON)
def test_appc_any_value_anywhere_is_read_or_refused(data: st.DataObject, value: Any) -> None:
    for manifest, parse in ((IMAGE, parse_image), (POD, parse_pod)):
        changed = altered(manifest, data.draw(st.sampled_from(places(manifest))), value)
        try:
            result = parse(changed)
        except BadInput as e:
            assert e.message.isprintable()
        else:
            assert parse(json.dumps(result.to_json()).encode()) == result


@given(JSON)
def test_appc_any_json_is_read_or_refused(value: Any) -> None:
    data = json.dumps(value).encode()
    for parse in (parse_image, parse_pod):
        with pytest.raises(BadInput):
            parse(data)


@given(st.binary())
def test_appc_any_bytes_are_read_or_refused(data: bytes) -> None:
    for parse in (parse_image, parse_pod):
        with pytest.raises(BadInput):
            parse(data)
