"""OCI image configurations (image-spec, config.md and conversion.md) as appc manifests, and back."""

from __future__ import annotations

from podium.appc import names
from podium.appc.annotations import STOP_SIGNAL
from podium.appc.app import App, MountPoint, Port, is_timestamp
from podium.appc.fields import Field, shown
from podium.appc.image_manifest import ImageManifest
from podium.appc.jsonread import check_value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

CMD = "podium/oci-cmd"  # annotation: how many of exec's last words were the OCI Cmd, which a caller may replace
VARIANT = "podium/oci-variant"  # annotation: the OCI variant, where the arch label does not tell it

# OCI (GOARCH, variant) → appc; the first entry of an appc name is the way back.
_ARCH = {
    ("amd64", ""): "amd64",
    ("386", ""): "i386",
    ("arm64", ""): "aarch64",
    ("arm", "v6"): "armv6l",
    ("arm", "v7"): "armv7l",
    ("arm", ""): "armv6l",
    ("arm", "v5"): "armv6l",
    ("arm", "v8"): "armv7l",
    ("ppc64", ""): "ppc64",
    ("ppc64le", ""): "ppc64le",
    ("s390x", ""): "s390x",
    ("riscv64", ""): "riscv64",
    ("loong64", ""): "loongarch64",
    ("mips", ""): "mips",
    ("mipsle", ""): "mipsel",
    ("mips64", ""): "mips64",
    ("mips64le", ""): "mips64el",
}


def convert_config(config: dict[str, Any], *, name: str, labels: Mapping[str, str]) -> ImageManifest:
    """The appc manifest of an OCI image.

    Read it back with `parse_image(…, own=True)`: an environment may have names that appc refuses, and the group is
    empty where OCI means "the user's own group". Labels become the app's userLabels, whose names are free.

    Args:
        config: the image configuration; its optional members may be null.
        name: of the image, an AC Identifier (see `names.sanitize_identifier`).
        labels: further labels of the image, such as `version`.

    Raises:
        BadInput: a member has the wrong type or form, or the platform is none that podium knows.
    """
    check_value(config, "the image configuration")
    root = Field(config, "")
    inner = root.get("config") or Field({}, "config")
    if not names.is_ac_identifier(name):
        raise Field(name, "name").bad(f"{name[:160]!r} is not an AC identifier")
    entrypoint, cmd = _words(inner, "Entrypoint"), _words(inner, "Cmd")
    if not entrypoint:
        cmd = _command(cmd)
    user, group = _user(inner.get("User"))
    platform, annotations = _platform(root)
    annotations |= _annotations(root, inner, len(cmd))
    user_labels = inner.get("Labels")
    app = App(
        exec=(*entrypoint, *cmd),
        user=user,
        group=group,
        working_directory=_directory(inner.get("WorkingDir")),
        environment=_environment(inner.get("Env")),
        mount_points=_mount_points(inner.get("Volumes")),
        ports=_ports(inner.get("ExposedPorts")),
        user_labels=user_labels.texts() if user_labels else {},
    )
    return ImageManifest(name=name, labels={**labels, **platform}, app=app, annotations=annotations)


def _words(field: Field, key: str) -> tuple[str, ...]:
    words = field.get(key)
    result = tuple(item.passable() for item in words.items()) if words else ()
    return _command(result) if key == "Entrypoint" else result


def _command(words: tuple[str, ...]) -> tuple[str, ...]:
    # `ENTRYPOINT [""]` is how a Dockerfile takes an inherited entry point away; an empty command can't be run anyway.
    while words and not words[0]:
        words = words[1:]
    return words


def _user(field: Field | None) -> tuple[str, str]:
    text = field.passable() if field else ""
    user, _, group = text.partition(":")
    if ":" in group:
        raise Field(text, "config.User").bad(f"{text[:64]!r} is not user or user:group")
    return user or "0", group or ("0" if user in ("", "0", "root") else "")


def _directory(field: Field | None) -> str | None:
    path = field.passable() if field else ""
    return None if path in ("", "/") else path if path.startswith("/") else f"/{path}"


def _environment(field: Field | None) -> dict[str, str]:
    result: dict[str, str] = {}
    for item in field.items() if field else ():
        name, _, value = item.passable().partition("=")
        if not name:
            raise item.bad("is not of the form NAME=VALUE")
        result.pop(name, None)  # the last one counts
        result[name] = value
    return result


def _mount_points(field: Field | None) -> tuple[MountPoint, ...]:
    result: dict[str, MountPoint] = {}
    for path in field.members() if field else ():
        place = Field(path, f"config.Volumes.{shown(path)}").in_rootfs()
        if place.strip("/"):  # a volume in place of the whole rootfs is none
            name = _free_name(names.sanitize_name(f"volume-{place}"), result)
            result[name] = MountPoint(name, place)
    return tuple(result.values())


def _free_name(name: str, taken: Mapping[str, Any]) -> str:
    number, result = 1, name
    while result in taken:
        number += 1
        result = f"{name}-{number}"
    return result


def _ports(field: Field | None) -> tuple[Port, ...]:
    result: dict[str, Port] = {}
    for key in field.members() if field else ():
        place = Field(key, f"config.ExposedPorts.{shown(key)}")
        span, _, protocol = key.partition("/")
        first, dash, last = span.partition("-")
        protocol = protocol.lower() or "tcp"
        if not all(t.isascii() and t.isdigit() and len(t) <= 5 for t in ((first, last) if dash else (first,))):
            raise place.bad("is not of the form PORT, PORT/PROTOCOL or FIRST-LAST/PROTOCOL")
        low, high = int(first), int(last or first)
        if not 1 <= low <= high <= 65535:
            raise place.bad("must be from 1 to 65535")
        if not names.is_ac_name(protocol):
            raise place.bad(f"{protocol[:64]!r} is no protocol")
        name = _free_name(f"{low}-{protocol}" if low == high else f"{low}-{high}-{protocol}", result)
        result[name] = Port(name, protocol, low, high - low + 1)
    return tuple(result.values())


def _platform(root: Field) -> tuple[dict[str, str], dict[str, str]]:
    """Labels, and the annotation that keeps a variant which they can't tell."""
    texts = [f.text() if f else "" for f in map(root.get, ("os", "architecture", "variant"))]
    system, arch, variant = texts
    if not system and not arch:
        return {}, {}
    label = _ARCH.get((arch, variant)) or _ARCH.get((arch, ""))
    if system != "linux" or label is None:
        raise Field(arch, "architecture").bad(
            f"an image for {'/'.join(t[:32] for t in texts if t)} can't be run by podium"
        )
    kept = {} if not variant or _back(label) == (arch, variant) else {VARIANT: variant}
    return {"os": system, "arch": label}, kept


def _annotations(root: Field, inner: Field, cmd: int) -> dict[str, str]:
    created, author, signal = root.get("created"), root.get("author"), inner.get("StopSignal")
    result = {}
    if created and is_timestamp(created.text()):  # another text is of no use to anybody
        result["created"] = created.text()
    if author and author.text():
        result["authors"] = author.text()
    if signal and signal.text():
        result[STOP_SIGNAL] = signal.text()
    if cmd:
        result[CMD] = str(cmd)
    return result


def _back(label: str) -> tuple[str, str]:
    return next((oci for oci, appc in _ARCH.items() if appc == label), (label, ""))


def to_oci_config(manifest: ImageManifest) -> dict[str, Any]:
    """The OCI image configuration of an image, without `rootfs` and `history`, which its layers decide.

    Architecture and os are absent where the image has no such label; OCI requires them, so the caller decides then.
    What OCI has no word for is left out: isolators, event handlers, supplementary groups, dependencies, socket
    activation. Without the annotation that says which words were the Cmd, all of exec is the Entrypoint.

    Raises:
        BadInput: the app's user or group is the owner of a file, which OCI can't say.
    """
    app, notes = manifest.app or App(), manifest.annotations
    split = notes.get(CMD, "0")
    cmd = min(int(split), len(app.exec)) if split.isascii() and split.isdigit() and len(split) < 6 else 0
    at = len(app.exec) - cmd
    inner: dict[str, Any] = {
        "User": _oci_user(app),
        "ExposedPorts": {_oci_port(p): {} for p in app.ports},
        "Env": [f"{k}={v}" for k, v in app.environment.items()],
        "Entrypoint": list(app.exec[:at]),
        "Cmd": list(app.exec[at:]),
        "Volumes": {m.path: {} for m in app.mount_points},
        "WorkingDir": app.working_directory,
        "Labels": dict(app.user_labels),
        "StopSignal": notes.get(STOP_SIGNAL),
    }
    arch, variant = _back(manifest.labels.get("arch", ""))
    outer = {
        "created": notes.get("created"),
        "author": notes.get("authors"),
        "architecture": arch,
        "variant": notes.get(VARIANT) or variant,
        "os": manifest.labels.get("os"),
    }
    return {
        **{k: v for k, v in outer.items() if v},
        "config": {k: v for k, v in inner.items() if v},
    }


def _oci_user(app: App) -> str:
    if app.user.startswith("/") or app.group.startswith("/"):
        raise Field(app.user, "app.user").bad("an OCI image can't say that a file's owner is meant")
    if app.user == "0" and app.group == "0":
        return ""
    return f"{app.user}:{app.group}" if app.group else app.user


def _oci_port(port: Port) -> str:
    last = port.port + port.span - 1
    return f"{port.port}-{last}/{port.protocol}" if last > port.port else f"{port.port}/{port.protocol}"
