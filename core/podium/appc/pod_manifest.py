"""PodManifest: which apps run together, with which volumes, ports and isolators (appc pods.md)."""

from __future__ import annotations

from podium.appc import names
from podium.appc.app import App, Port, parse_annotations, parse_app, parse_labels, parse_port
from podium.appc.fields import ID_MAX, Field, unpairs
from podium.appc.image_manifest import open_manifest
from podium.appc.isolators import Isolator, parse_isolators
from podium.appc.quantity import quantity
from podium.named import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

KIND = "PodManifest"
_KNOWN = frozenset(
    (
        *("acKind", "acVersion", "apps", "volumes", "isolators", "annotations", "ports"),
        *("userAnnotations", "userLabels"),
    )
)
_APP = frozenset(("name", "image", "app", "readOnlyRootFS", "mounts", "annotations"))
_IMAGE = frozenset(("id", "name", "labels"))
_MOUNT = frozenset(("volume", "path", "appVolume"))
_VOLUME = frozenset(("name", "kind", "source", "readOnly", "recursive", "mode", "uid", "gid", "size"))
_EXPOSED = frozenset(("name", "hostPort", "hostIP", "podPort"))


class Volume(NamedTuple):
    """A volume: `host`, `empty`, or `tmpfs`, which podium adds (as `empty`, in memory, at most `size` bytes).

    `read_only` and `recursive` are None where the manifest does not say; the latter is then true.
    """

    name: str
    kind: str
    source: str | None = None
    read_only: bool | None = None
    recursive: bool | None = None
    mode: int = 0o755
    uid: int = 0
    gid: int = 0
    size: int | None = None
    extra: Mapping[str, Any] = {}

    def to_json(self) -> dict[str, Any]:
        """As it stands in a manifest."""
        optional: dict[str, Any] = {"source": self.source, "readOnly": self.read_only, "recursive": self.recursive}
        if self.kind != "host":
            optional |= {"mode": f"{self.mode:04o}", "uid": self.uid, "gid": self.gid}
        if self.size is not None:
            optional["size"] = str(self.size)
        result = {**self.extra, "name": self.name, "kind": self.kind}
        return {**result, **{k: v for k, v in optional.items() if v is not None}}


class Mount(NamedTuple):
    """Where an app sees a volume; `app_volume` is meant instead of the pod's volume of that name."""

    volume: str
    path: str
    app_volume: Volume | None = None
    extra: Mapping[str, Any] = {}

    def to_json(self) -> dict[str, Any]:
        """As it stands in a manifest."""
        own = {"appVolume": self.app_volume.to_json()} if self.app_volume else {}
        return {**self.extra, "volume": self.volume, "path": self.path, **own}


class RuntimeImage(NamedTuple):
    """The image of an app; `id` in appc's spelling (`sha256-<hex>`, see `names.to_podium_id`)."""

    id: str
    name: str | None = None
    labels: Mapping[str, str] = {}
    extra: Mapping[str, Any] = {}

    def to_json(self) -> dict[str, Any]:
        """As it stands in a manifest."""
        optional = {"name": self.name, "labels": unpairs(self.labels)}
        return {**self.extra, "id": self.id, **{k: v for k, v in optional.items() if v}}


class RuntimeApp(NamedTuple):
    """One app of a pod; `app` replaces its image's app section."""

    name: str
    image: RuntimeImage
    app: App | None = None
    read_only_rootfs: bool = False
    mounts: tuple[Mount, ...] = ()
    annotations: Mapping[str, str] = {}
    extra: Mapping[str, Any] = {}

    def to_json(self) -> dict[str, Any]:
        """As it stands in a manifest."""
        optional = {
            "app": self.app.to_json() if self.app else None,
            "readOnlyRootFS": self.read_only_rootfs,
            "mounts": [m.to_json() for m in self.mounts],
            "annotations": unpairs(self.annotations),
        }
        required = {"name": self.name, "image": self.image.to_json()}
        return {**self.extra, **required, **{k: v for k, v in optional.items() if v}}


class ExposedPort(NamedTuple):
    """A port of an app that the host shall forward; `host_ip` None: all of the host's addresses."""

    name: str
    host_port: int
    host_ip: str | None = None
    pod_port: Port | None = None
    extra: Mapping[str, Any] = {}

    def to_json(self) -> dict[str, Any]:
        """As it stands in a manifest."""
        optional = {"hostIP": self.host_ip, "podPort": self.pod_port.to_json() if self.pod_port else None}
        required = {"name": self.name, "hostPort": self.host_port}
        return {**self.extra, **required, **{k: v for k, v in optional.items() if v}}


class PodManifest(NamedTuple):
    """See the specification for each field; `extra` are members that podium does not know, kept as they are."""

    apps: tuple[RuntimeApp, ...]
    volumes: tuple[Volume, ...] = ()
    isolators: tuple[Isolator, ...] = ()
    annotations: Mapping[str, str] = {}
    ports: tuple[ExposedPort, ...] = ()
    user_annotations: Mapping[str, str] = {}
    user_labels: Mapping[str, str] = {}
    ac_version: str = names.SPEC_VERSION
    extra: Mapping[str, Any] = {}

    def to_json(self) -> dict[str, Any]:
        """The manifest as `parse_pod` reads it; lists are always there, as rkt writes and expects them."""
        maps = {"userAnnotations": dict(self.user_annotations), "userLabels": dict(self.user_labels)}
        return {
            "acVersion": self.ac_version,
            "acKind": KIND,
            "apps": [a.to_json() for a in self.apps],
            "volumes": [v.to_json() for v in self.volumes],
            "isolators": [i.to_json() for i in self.isolators],
            "annotations": unpairs(self.annotations),
            "ports": [p.to_json() for p in self.ports],
            **{k: v for k, v in maps.items() if v},
            **self.extra,
        }


def parse_pod(data: bytes | dict[str, Any], *, own: bool = False) -> PodManifest:
    """A pod manifest, by the specification's rules.

    Args:
        data: the JSON document, or what was read from it.
        own: podium wrote it itself (see `podium.appc.app.parse_app`).

    Raises:
        SyntaxFault: it is no JSON; line and column are told.
        LimitExceeded: it is too large, or nested too deep.
        BadInput: it is not as the specification says; the message starts with the place, as in `apps[2].app.exec[0]`.
    """
    root, version = open_manifest(data, KIND)
    volumes, ports = root.get("volumes"), root.get("ports")
    annotations, labels = root.get("userAnnotations"), root.get("userLabels")
    apps: dict[str, RuntimeApp] = {}
    for item in root.need("apps").items():
        app = _app(item, own)
        if app.name in apps:
            raise item.bad(f"a second app {app.name!r}")
        apps[app.name] = app
    found: dict[str, Volume] = {}
    for item in volumes.items() if volumes else ():
        volume = parse_volume(item)
        if volume.name in found:
            raise item.bad(f"a second volume {volume.name!r}")
        found[volume.name] = volume
    return PodManifest(
        apps=tuple(apps.values()),
        volumes=tuple(found.values()),
        isolators=parse_isolators(root.get("isolators")),
        annotations=parse_annotations(root.get("annotations")),
        ports=_exposed_ports(ports, apps),
        user_annotations=annotations.texts() if annotations else {},
        user_labels=labels.texts() if labels else {},
        ac_version=version,
        extra=root.extra(_KNOWN),
    )


def _app(field: Field, own: bool) -> RuntimeApp:
    image, app = field.need("image"), field.get("app")
    name, read_only, mounts = image.get("name"), field.get("readOnlyRootFS"), field.get("mounts")
    return RuntimeApp(
        name=field.need("name").name(),
        image=RuntimeImage(
            image.need("id").image_id(),
            name.identifier() if name else None,
            parse_labels(image.get("labels")),
            image.extra(_IMAGE),
        ),
        app=parse_app(app, own=own) if app else None,
        read_only_rootfs=read_only.flag() if read_only else False,
        mounts=tuple(map(_mount, mounts.items())) if mounts else (),
        annotations=parse_annotations(field.get("annotations")),
        extra=field.extra(_APP),
    )


def _mount(field: Field) -> Mount:
    volume = field.get("appVolume")
    own = parse_volume(volume) if volume else None
    return Mount(field.need("volume").name(), field.need("path").in_rootfs(), own, field.extra(_MOUNT))


def parse_volume(field: Field) -> Volume:
    """A volume of a pod, or an app's own."""
    name, kind = field.need("name").name(), field.need("kind")
    if kind.text() not in ("host", "empty", "tmpfs"):
        raise kind.bad(f"{kind.text()[:64]!r} is not one of host, empty, tmpfs")
    is_host = kind.text() == "host"
    forbidden = ("mode", "uid", "gid", "size") if is_host else ("source",)
    for key in (*forbidden, *(("size",) if kind.text() == "empty" else ())):
        member = field.get(key)
        if member and member.value != "":
            raise member.bad(f"can't be set for a volume of kind {kind.text()}")
    read_only, recursive, mode, size = (field.get(k) for k in ("readOnly", "recursive", "mode", "size"))
    uid, gid = field.get("uid"), field.get("gid")
    return Volume(
        name=name,
        kind=kind.text(),
        source=field.need("source").absolute() if is_host else None,
        read_only=read_only.flag() if read_only else None,
        recursive=recursive.flag() if recursive else None,
        mode=_mode(mode) if mode and not is_host else 0o755,
        uid=uid.integer(0, ID_MAX) if uid and not is_host else 0,
        gid=gid.integer(0, ID_MAX) if gid and not is_host else 0,
        size=_size(size) if size and kind.text() == "tmpfs" else None,
        extra=field.extra(_VOLUME),
    )


def _mode(field: Field) -> int:
    text = field.text()
    if not 3 <= len(text) <= 5 or any(c not in "01234567" for c in text) or int(text, 8) > 0o7777:
        raise field.bad(f"{text[:64]!r} is no mode (three or four octal digits, such as 0755)")
    return int(text, 8)


def _size(field: Field) -> int:
    try:
        size = quantity(field.text())
    except ValueError as e:
        raise field.bad(str(e)) from None
    if size < 1:
        raise field.bad("must not be 0")
    return size


def _exposed_ports(field: Field | None, apps: Mapping[str, RuntimeApp]) -> tuple[ExposedPort, ...]:
    result = []
    for item in field.items() if field else ():
        name, host_ip, pod_port = item.need("name").name(), item.get("hostIP"), item.get("podPort")
        if pod_port is None:
            owners = [a.name for a in apps.values() if a.app and any(p.name == name for p in a.app.ports)]
            if len(owners) > 1:
                raise item.bad(f"the apps {', '.join(owners)} all have a port {name!r}; their names must differ")
        if host_ip and not is_ipv4(host_ip.text()):
            raise host_ip.bad(f"{host_ip.text()[:64]!r} is no IPv4 address")
        result.append(
            ExposedPort(
                name,
                item.need("hostPort").integer(1, 65535),
                host_ip.text() if host_ip else None,
                parse_port(pod_port) if pod_port else None,
                item.extra(_EXPOSED),
            )
        )
    return tuple(result)


def is_ipv4(text: str) -> bool:
    """Whether it is an IPv4 address in dotted-quad notation."""
    parts = text.split(".")
    digits = all(0 < len(p) <= 3 and p.isascii() and p.isdigit() for p in parts)
    return digits and len(parts) == 4 and all(str(int(p)) == p and int(p) < 256 for p in parts)
