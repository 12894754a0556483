from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from podium.appc.app import App, MountPoint, Port
from podium.appc.image_manifest import ImageManifest, parse_image
from podium.appc.oci import convert_config, to_oci_config
from podium.errors import BadInput

CONFIG: dict[str, Any] = {
    "created": "2015-10-31T22:22:56.015925234Z",
    "author": "Alyssa <a@example.com>",
    "architecture": "amd64",
    "os": "linux",
    "config": {
        "User": "alice:staff",
        "ExposedPorts": {"8080/tcp": {}, "53/udp": {}, "9000-9002/tcp": {}},
        "Env": ["PATH=/usr/bin:/bin", "FOO=a=b", "EMPTY="],
        "Entrypoint": ["/bin/app"],
        "Cmd": ["--foreground", "--config"],
        "Volumes": {"/var/results": {}, "/var/log/app": {}},
        "WorkingDir": "/home/alice",
        "Labels": {"Com.Example.Git url": "https://example.com"},
        "StopSignal": "SIGRTMIN+3",
    },
    "rootfs": {"type": "layers", "diff_ids": []},
}


def convert(config: dict[str, Any]) -> ImageManifest:
    manifest = convert_config(config, name="example.com/app", labels={"version": "latest"})
    assert parse_image(json.dumps(manifest.to_json()).encode(), own=True) == manifest
    return manifest


def app_of(**config: Any) -> App:
    app = convert({"os": "linux", "architecture": "amd64", "config": config}).app
    assert app is not None
    return app


def test_appc_oci_conversion() -> None:
    manifest = convert(CONFIG)
    assert manifest.name == "example.com/app"
    assert manifest.labels == {"version": "latest", "os": "linux", "arch": "amd64"}
    assert manifest.annotations == {
        "created": "2015-10-31T22:22:56.015925234Z",
        "authors": "Alyssa <a@example.com>",
        "podium/stop-signal": "SIGRTMIN+3",
        "podium/oci-cmd": "2",
    }
    assert manifest.app == App(
        exec=("/bin/app", "--foreground", "--config"),
        user="alice",
        group="staff",
        working_directory="/home/alice",
        environment={"PATH": "/usr/bin:/bin", "FOO": "a=b", "EMPTY": ""},
        mount_points=(
            MountPoint("volume-var-results", "/var/results"),
            MountPoint("volume-var-log-app", "/var/log/app"),
        ),
        ports=(
            Port("8080-tcp", "tcp", 8080),
            Port("53-udp", "udp", 53),
            Port("9000-9002-tcp", "tcp", 9000, 3),
        ),
        user_labels={"Com.Example.Git url": "https://example.com"},
    )


def test_appc_oci_round_trip() -> None:
    there = to_oci_config(convert(CONFIG))
    assert there == {k: v for k, v in CONFIG.items() if k != "rootfs"}
    assert convert(there) == convert(CONFIG)


@pytest.mark.parametrize(
    ("user", "wanted"),
    [
        (None, ("0", "0")),
        ("", ("0", "0")),
        ("0", ("0", "0")),
        ("root", ("root", "0")),
        ("1000", ("1000", "")),
        ("alice", ("alice", "")),
        ("1000:7", ("1000", "7")),
        ("alice:staff", ("alice", "staff")),
        (":staff", ("0", "staff")),
        ("alice:", ("alice", "")),
    ],
)
def test_appc_oci_users(user: str | None, wanted: tuple[str, str]) -> None:
    app = app_of(User=user)
    assert (app.user, app.group) == wanted


@pytest.mark.parametrize(
    ("entrypoint", "cmd", "wanted"),
    [
        (None, None, ()),
        (["sh"], None, ("sh",)),
        (None, ["sh", "-c", "x"], ("sh", "-c", "x")),
        (["./run.sh"], ["", "a"], ("./run.sh", "", "a")),
        ([""], ["sh"], ("sh",)),
        ([], [""], ()),
    ],
)
def test_appc_oci_commands(entrypoint: list[str] | None, cmd: list[str] | None, wanted: tuple[str, ...]) -> None:
    assert app_of(Entrypoint=entrypoint, Cmd=cmd).exec == wanted


def test_appc_oci_environment_is_kept_as_it_is() -> None:
    env = app_of(Env=["A=1", "npm_config_@x:r=y", "B", "A=2", "1X= "]).environment
    assert list(env.items()) == [("npm_config_@x:r", "y"), ("B", ""), ("A", "2"), ("1X", " ")]


@pytest.mark.parametrize(("path", "wanted"), [("", None), ("/", None), ("/srv", "/srv"), ("srv", "/srv"), (None, None)])
def test_appc_oci_working_folder(path: str | None, wanted: str | None) -> None:
    assert app_of(WorkingDir=path).working_directory == wanted


def test_appc_oci_volumes_with_one_name_stay_apart() -> None:
    points = app_of(Volumes={"/a/b": {}, "/a-b": {}, "a_b": {}, "/": {}}).mount_points
    assert [(p.name, p.path) for p in points] == [
        ("volume-a-b", "/a/b"),
        ("volume-a-b-2", "/a-b"),
        ("volume-a-b-3", "/a_b"),
    ]


@pytest.mark.parametrize(
    ("arch", "variant", "label", "back"),
    [
        ("amd64", "", "amd64", ("amd64", None)),
        ("amd64", "v3", "amd64", ("amd64", "v3")),
        ("386", "", "i386", ("386", None)),
        ("arm64", "v8", "aarch64", ("arm64", "v8")),
        ("arm", "v7", "armv7l", ("arm", "v7")),
        ("arm", "v6", "armv6l", ("arm", "v6")),
        ("riscv64", "", "riscv64", ("riscv64", None)),
        ("ppc64le", "", "ppc64le", ("ppc64le", None)),
        ("s390x", "", "s390x", ("s390x", None)),
    ],
)
def test_appc_oci_platforms(arch: str, variant: str, label: str, back: tuple[str, str | None]) -> None:
    manifest = convert({"os": "linux", "architecture": arch, "variant": variant})
    assert manifest.labels["arch"] == label
    config = to_oci_config(manifest)
    assert (config["os"], config["architecture"], config.get("variant")) == ("linux", *back)


def test_appc_oci_without_a_platform_has_no_such_labels() -> None:
    assert convert({}).labels == {"version": "latest"}


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"os": "windows", "architecture": "amd64"}, "an image for windows/amd64 can't be run"),
        ({"os": "linux", "architecture": "z80"}, "an image for linux/z80 can't be run"),
        ({"config": []}, "config: must be an object"),
        ({"config": {"Env": {"A": "b"}}}, "config.Env: must be a list"),
        ({"config": {"Env": ["A=1", 2]}}, "config.Env[1]: must be a text"),
        ({"config": {"Env": ["=x"]}}, "config.Env[0]: is not of the form"),
        ({"config": {"Env": ["A=\0"]}}, "config.Env[0]: has a NUL"),
        ({"config": {"Entrypoint": "sh"}}, "config.Entrypoint: must be a list"),
        ({"config": {"User": 0}}, "config.User: must be a text"),
        ({"config": {"User": "a:b:c"}}, "config.User: 'a:b:c' is not"),
        ({"config": {"ExposedPorts": ["80"]}}, "config.ExposedPorts: must be an object"),
        ({"config": {"ExposedPorts": {"http": {}}}}, "config.ExposedPorts.http: is not of the form"),
        ({"config": {"ExposedPorts": {"0/tcp": {}}}}, "config.ExposedPorts.0/tcp: must be from 1"),
        ({"config": {"ExposedPorts": {"9-8/tcp": {}}}}, "config.ExposedPorts.9-8/tcp: must be from 1"),
        ({"config": {"ExposedPorts": {"80/t/p": {}}}}, "config.ExposedPorts.80/t/p: 't/p' is no protocol"),
        ({"config": {"Volumes": {"": {}}}}, "config.Volumes.: must not be empty"),
        ({"config": {"Labels": {"a": 1}}}, "config.Labels.a: must be a text"),
        ({"created": 7}, "created: must be a text"),
    ],
)
def test_appc_oci_refused(config: dict[str, Any], message: str) -> None:
    with pytest.raises(BadInput) as e:
        convert(config)
    assert e.value.message.startswith(message) or f": {message}" in e.value.message


def test_appc_oci_name_must_be_an_identifier() -> None:
    with pytest.raises(BadInput, match="'Foo:1' is not an AC identifier"):
        convert_config({}, name="Foo:1", labels={})


def test_appc_oci_of_an_image_that_was_none() -> None:
    app = App(exec=("/bin/x", "y"), user="5", group="6", ports=(Port("a", "udp", 1, 2),))
    config = to_oci_config(ImageManifest("a", {"os": "linux", "arch": "armv7b"}, app, {"podium/oci-cmd": "many"}))
    assert config["config"] == {"User": "5:6", "ExposedPorts": {"1-2/udp": {}}, "Entrypoint": ["/bin/x", "y"]}
    assert config["architecture"] == "armv7b"
    assert to_oci_config(ImageManifest("a")) == {"config": {}}
    with pytest.raises(BadInput, match="owner"):
        to_oci_config(ImageManifest("a", {}, App(user="/bin/ping")))


TEXT = st.text(max_size=12)
ANY = st.recursive(st.none() | st.integers() | TEXT, lambda i: st.lists(i, max_size=3) | st.dictionaries(TEXT, i))
KEYS = ["User", "ExposedPorts", "Env", "Entrypoint", "Cmd", "Volumes", "WorkingDir", "Labels", "StopSignal"]


@given(st.dictionaries(st.sampled_from(KEYS), ANY | st.lists(TEXT) | st.dictionaries(TEXT, st.just({})) | TEXT))
def test_appc_oci_any_configuration_is_converted_or_refused(inner: dict[str, Any]) -> None:
    try:
        manifest = convert_config({"config": inner}, name="a", labels={})
    except BadInput as e:
        assert e.message.isprintable()
        return
    assert parse_image(manifest.to_json(), own=True) == manifest
    assert convert_config(to_oci_config(manifest), name="a", labels={}).app is not None
