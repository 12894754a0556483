"""From what a user asks and what the images say to the pod manifest: pure, so that `--dry-run` can print it.

What appc has no member for is an annotation whose name begins with `podium/`; see docs/on-disk-format.md.
"""

from __future__ import annotations

from podium.appc import isolators as iso
from podium.appc import names
from podium.appc.annotations import DNS_DOMAIN, DNS_OPTIONS, HOSTNAME, NET, STOP_SIGNAL, SUPPLEMENTARY
from podium.appc.app import App
from podium.appc.fields import Field
from podium.appc.image_manifest import ImageManifest
from podium.appc.oci import CMD
from podium.appc.pod_manifest import (
    ExposedPort,
    Mount,
    PodManifest,
    RuntimeApp,
    RuntimeImage,
    Volume,
    is_ipv4,
    parse_volume,
)
from podium.errors import BadInput
from podium.named import NamedTuple
from podium.pods.request import AppRequest, PodRequest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any


class ImageOf(NamedTuple):
    """The image that an app runs: `id` as `sha256:<hex>`."""

    id: str
    name: str
    manifest: ImageManifest


def compose(
    request: PodRequest, images: Sequence[ImageOf], parent_env: Mapping[str, str], file_env: Mapping[str, str]
) -> PodManifest:
    """The manifest of a pod asked for on the command line.

    Args:
        request: what the user asks.
        images: for each of its apps.
        parent_env: the caller's environment, used with --inherit-env.
        file_env: what the files of --set-env-file hold.

    Raises:
        BadInput: names what can't be.
    """
    apps = tuple(
        _app(request, asked, image, parent_env, file_env) for asked, image in zip(request.apps, images, strict=True)
    )
    volumes = tuple(parse_volume(Field(dict(v), f"--volume {v.get('name', '?')}")) for v in request.volumes)
    ports = tuple(ExposedPort(name, port, ip or None) for name, ip, port in request.ports)
    manifest = PodManifest(
        apps,
        volumes,
        annotations=_annotations(request),
        ports=ports,
        user_labels=request.labels,
        user_annotations=request.annotations,
    )
    return complete(manifest)


def complete(manifest: PodManifest) -> PodManifest:
    """Match mounts and volumes by name, as the specification says, and check what only the whole pod can tell.

    A mount point that no volume serves gets an empty one of its own, as in rkt.

    Raises:
        BadInput: an app's name is taken, a mount names no volume, a volume serves nobody, a port is not an app's, the
            host name is none.
    """
    _check_hostname(manifest)
    seen: set[str] = set()
    for app in manifest.apps:
        if app.name in seen:
            raise BadInput(f"two apps are called {app.name!r}", hint="give one another --name", subject=app.name)
        seen.add(app.name)
    volumes = {v.name: v for v in manifest.volumes}
    if len(volumes) != len(manifest.volumes):
        raise BadInput("two volumes have the same name")
    used: set[str] = set()
    apps = []
    for app in manifest.apps:
        mounts = list(app.mounts)
        for mount in mounts:
            if mount.volume not in volumes and mount.app_volume is None:
                raise BadInput(
                    f"app {app.name!r} mounts volume {mount.volume!r}, which the pod does not have",
                    hint=f"add --volume {mount.volume},kind=…",
                    subject=mount.volume,
                )
        targets = {m.path for m in mounts}
        for point in app.app.mount_points if app.app else ():
            if point.path in targets:
                continue
            name = point.name
            if name not in volumes:
                name = names.sanitize_name(f"{app.name}-{point.name}")
                volumes.setdefault(name, Volume(name, "empty"))
            mounts.append(Mount(name, point.path))
        mounts = [mount._replace(path=_target(app.name, mount.path)) for mount in mounts]
        used.update(m.volume for m in mounts)
        apps.append(app._replace(mounts=tuple(mounts)))
    unused = [name for name in volumes if name not in used]
    if unused:
        raise BadInput(
            f"volume {unused[0]!r} is used by no app",
            hint=f"add --mount volume={unused[0]},target=PATH, or name a mount point of the image",
            subject=unused[0],
        )
    _check_ports(manifest)
    return manifest._replace(apps=tuple(apps), volumes=tuple(volumes.values()))


def _target(app: str, path: str) -> str:
    """A mount's target, plainly written: what a stage1 compares must mean what the kernel makes of it."""
    parts = [part for part in path.split("/") if part not in ("", ".")]
    if not parts or ".." in parts:
        raise BadInput(
            f"app {app!r}: no volume can be mounted at {path!r}", hint="give a path below /, without '..'", subject=path
        )
    return "/" + "/".join(parts)


def _check_hostname(manifest: PodManifest) -> None:
    name = manifest.annotations.get(HOSTNAME)
    if name is not None and not names.is_hostname(name):
        raise BadInput(
            f"{name[:80]!r} can't be a host name",
            hint="use at most 64 letters, digits and -, in parts of at most 63 that a dot separates",
            subject="--hostname",
        )


def _check_ports(manifest: PodManifest) -> None:
    known = {p.name for app in manifest.apps if app.app for p in app.app.ports}
    for port in manifest.ports:
        if port.name not in known and port.pod_port is None:
            has = ", ".join(sorted(known)) or "none"
            raise BadInput(f"no app has a port {port.name!r} (ports: {has})", subject=port.name)
        if port.host_ip and not is_ipv4(port.host_ip) and ":" not in port.host_ip:
            raise BadInput(f"port {port.name!r}: {port.host_ip!r} is no IP address", subject=port.name)


def app_name(image: str) -> str:
    """An app's default name: the last part of its image's."""
    return names.sanitize_name(image.rpartition("/")[2].partition(":")[0])


def _app(
    request: PodRequest,
    asked: AppRequest,
    image: ImageOf,
    parent_env: Mapping[str, str],
    file_env: Mapping[str, str],
) -> RuntimeApp:
    own = image.manifest.app or App()
    name = asked.name or app_name(image.name)
    if not names.is_ac_name(name):
        raise BadInput(f"{name!r} is no app name: use a-z, 0-9 and -", subject=name)
    command = _command(asked, own, image)
    if not command:
        raise BadInput(
            f"image {image.name!r} has no command, and none was given",
            hint="add --exec PATH, or '-- COMMAND' after the image",
            subject=image.name,
        )
    app = own._replace(
        exec=command,
        # A user of the caller's choice has his own group, unless that is chosen too.
        user=own.user if asked.user is None else asked.user,
        group=asked.group if asked.group is not None else own.group if asked.user is None else "",
        working_directory=asked.working_dir or own.working_directory,
        environment={
            **(parent_env if request.inherit_env else {}),
            **own.environment,
            **file_env,
            **request.set_env,
            **asked.environment,
        },
        isolators=_isolators(own.isolators, asked, name),
    )
    annotations = {
        f"podium/{key}": value
        for key, value, default in (
            ("restart", asked.restart, "no"),
            ("notify", "true" if asked.notify else "", ""),
            ("stdin", asked.stdin, "auto"),
            ("stdout", asked.stdout, "auto"),
            ("stderr", asked.stderr, "auto"),
        )
        if value != default
    }
    if asked.supplementary_gids:
        annotations[SUPPLEMENTARY] = ",".join(asked.supplementary_gids)
    if signal := image.manifest.annotations.get(STOP_SIGNAL):
        annotations[STOP_SIGNAL] = signal
    return RuntimeApp(
        name,
        RuntimeImage(names.to_appc_id(image.id), names.sanitize_identifier(image.name), image.manifest.labels),
        app,
        asked.readonly_rootfs,
        tuple(Mount(volume, target) for volume, target in asked.mounts),
        annotations,
    )


def _command(asked: AppRequest, own: App, image: ImageOf) -> tuple[str, ...]:
    if asked.exec is not None:
        return (asked.exec, *asked.args)
    if not asked.args:
        return own.exec
    replaced = int(image.manifest.annotations.get(CMD, "0"))
    return (*own.exec[: len(own.exec) - replaced], *asked.args)


def _kind(isolator: str) -> str:
    """Isolators that exclude each other share a kind."""
    for ending in ("-retain-set", "-remove-set", "-revoke-set"):
        isolator = isolator.removesuffix(ending)
    return isolator


def _isolators(own: Sequence[iso.Isolator], asked: AppRequest, app: str) -> tuple[iso.Isolator, ...]:
    made = [iso.make(name, raw, f"app {app}: {name}") for name, raw in asked.isolators]
    replaced = {_kind(i.name) for i in made}
    return tuple(i for i in own if _kind(i.name) not in replaced) + tuple(made)


def _annotations(request: PodRequest) -> dict[str, str]:
    from podium.quickjson import dumps

    values: dict[str, Any] = {
        HOSTNAME: request.hostname,
        NET: ",".join(request.net) if request.net else None,
        "podium/dns": ",".join(request.dns),
        "podium/dns-search": ",".join(request.dns_search),
        DNS_OPTIONS: ",".join(request.dns_options),
        DNS_DOMAIN: request.dns_domain,
        "podium/hosts": dumps([list(h) for h in request.hosts]) if request.hosts else None,
        "podium/private-users": "true" if request.private_users else None,
    }
    return {k: v for k, v in values.items() if v}
