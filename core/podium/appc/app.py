"""The `app` section, which image and pod manifests share (appc aci.md, "Image Manifest Schema")."""

from __future__ import annotations

from podium.appc.fields import ID_MAX, Field, pairs, unpairs
from podium.appc.isolators import Isolator, parse_isolators
from podium.named import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

# The reference implementation's table, and what Linux distributions are built for besides (the specification lets an
# implementation add to it); added names are those of uname(2).
OS_ARCH: dict[str, tuple[str, ...]] = {
    "linux": (
        *("amd64", "i386", "aarch64", "aarch64_be", "armv6l", "armv7l", "armv7b", "ppc64", "ppc64le", "s390x"),
        *("riscv64", "loongarch64", "mips", "mipsel", "mips64", "mips64el"),
    ),
    "freebsd": ("amd64", "i386", "arm"),
    "darwin": ("x86_64", "i386"),
}
_PORT = frozenset(("name", "protocol", "port", "count", "socketActivated"))
_MOUNT_POINT = frozenset(("name", "path", "readOnly"))
_HANDLERS = ("pre-start", "post-stop")
_APP = frozenset(
    (
        *("exec", "eventHandlers", "user", "group", "supplementaryGIDs", "supplementaryGids", "workingDirectory"),
        *("environment", "mountPoints", "ports", "isolators", "userAnnotations", "userLabels"),
    )
)
_LETTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_")
_ENV_CHARS = _LETTERS | frozenset("0123456789.-")


class MountPoint(NamedTuple):
    """Where an app expects a volume: `path` is absolute, inside the rootfs."""

    name: str
    path: str
    read_only: bool = False
    extra: Mapping[str, Any] = {}

    def to_json(self) -> dict[str, Any]:
        """As it stands in a manifest."""
        return {**self.extra, "name": self.name, "path": self.path, **({"readOnly": True} if self.read_only else {})}


class Port(NamedTuple):
    """`span` ports that an app listens on, from `port` on (the specification's `count`)."""

    name: str
    protocol: str
    port: int
    span: int = 1
    socket_activated: bool = False
    extra: Mapping[str, Any] = {}

    def to_json(self) -> dict[str, Any]:
        """As it stands in a manifest."""
        result = {**self.extra, "name": self.name, "protocol": self.protocol, "port": self.port, "count": self.span}
        return {**result, "socketActivated": self.socket_activated}


class App(NamedTuple):
    """How to run an app.

    Attributes:
        exec: command and arguments; a command without a slash is looked up in PATH inside the rootfs, one with a slash
            that is not its first character is relative to the working folder. May be empty.
        user: name, number, or absolute path of a file whose owner is meant.
        group: likewise; empty (only in podium's own manifests): the user's own group, as OCI has it.
        supplementary_gids: numbers.
        event_handlers: `pre-start`, `post-stop` → command and arguments.
        working_directory: absolute path; None where the manifest leaves it at `/`.
        environment: name → value, in order.
        extra: members that podium does not know, kept as they are.
    """

    exec: tuple[str, ...] = ()
    user: str = "0"
    group: str = "0"
    supplementary_gids: tuple[int, ...] = ()
    event_handlers: Mapping[str, tuple[str, ...]] = {}
    working_directory: str | None = None
    environment: Mapping[str, str] = {}
    mount_points: tuple[MountPoint, ...] = ()
    ports: tuple[Port, ...] = ()
    isolators: tuple[Isolator, ...] = ()
    user_annotations: Mapping[str, str] = {}
    user_labels: Mapping[str, str] = {}
    extra: Mapping[str, Any] = {}

    def to_json(self) -> dict[str, Any]:
        """As it stands in a manifest."""
        optional = {
            "supplementaryGIDs": list(self.supplementary_gids),
            "eventHandlers": [{"name": k, "exec": list(v)} for k, v in self.event_handlers.items()],
            "workingDirectory": self.working_directory,
            "environment": unpairs(self.environment),
            "mountPoints": [m.to_json() for m in self.mount_points],
            "ports": [p.to_json() for p in self.ports],
            "isolators": [i.to_json() for i in self.isolators],
            "userAnnotations": dict(self.user_annotations),
            "userLabels": dict(self.user_labels),
        }
        required = {"exec": list(self.exec), "user": self.user, "group": self.group}
        return {**self.extra, **required, **{k: v for k, v in optional.items() if v}}


def parse_labels(field: Field | None) -> dict[str, str]:
    """The labels of an image, a reference to one, or a dependency.

    Raises:
        BadInput: a name is wrong, `name`, or there twice; or os and arch are no combination that is known.
    """
    labels = pairs(field, "label")
    if field is None:
        return labels
    if "name" in labels:
        raise field.bad("a label must not be called 'name'")
    system, arch = labels.get("os"), labels.get("arch")
    if system is not None:
        if system not in OS_ARCH:
            raise field.bad(f"os {system[:64]!r} is not one of {', '.join(OS_ARCH)}")
        if arch is not None and arch not in OS_ARCH[system]:
            raise field.bad(f"arch {arch[:64]!r} is not one of {', '.join(OS_ARCH[system])}, which {system} runs on")
    return labels


def parse_annotations(field: Field | None) -> dict[str, str]:
    """Annotations; those that the specification knows must be what it says (a date, a web address).

    Raises:
        BadInput: a name is wrong or there twice, or a known annotation's value is wrong.
    """
    annotations = pairs(field, "annotation")
    if field is not None:
        for name in ("homepage", "documentation"):
            address = annotations.get(name)
            if address is not None and not address.lower().startswith(("http://", "https://")):
                raise field.bad(f"{name} {address[:160]!r} is no http or https address")
        if "created" in annotations and not is_timestamp(annotations["created"]):
            raise field.bad(f"created {annotations['created'][:64]!r} is no RFC 3339 time")
    return annotations


def is_timestamp(text: str) -> bool:
    """Whether it is a date and time of RFC 3339, section 5.6. (`re` and `datetime` would cost each run 4 ms.)"""
    local, zone = (text[:-1], "") if text.endswith(("Z", "z")) else (text[:-6], text[-6:])
    whole, dot, fraction = local.partition(".")
    if _shape(whole) != "0000-00-00T00:00:00" or _shape(zone) not in ("", "+00:00", "-00:00"):
        return False
    if dot and _shape(fraction) != "0" * len(fraction or "."):
        return False
    year, month, day, hour, minute, second = (int(whole[at : at + n]) for at, n in _TIMESTAMP)
    leap = year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)
    return (
        1 <= month <= 12
        and 1 <= day <= (31, 29 if leap else 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)[month - 1]
        and (hour < 24 and minute < 60 and second <= 60)
        and (not zone or (int(zone[1:3]) < 24 and int(zone[4:]) < 60))
    )


_TIMESTAMP = ((0, 4), (5, 2), (8, 2), (11, 2), (14, 2), (17, 2))  # where its numbers begin, and their digits


def _shape(text: str) -> str:
    return "".join(["0" if c in "0123456789" else c for c in text]).upper()


def parse_port(field: Field) -> Port:
    """A port or a range of them."""
    first = field.need("port").integer(1, 65535)
    count = field.get("count")
    many = (count.integer(0, 65535) or 1) if count else 1  # the reference implementation writes 0 for one
    if first + many > 65536:
        raise field.bad(f"{many} ports from {first} on end above 65535")
    activated = field.get("socketActivated")
    return Port(
        field.need("name").name(),
        field.need("protocol").filled(),
        first,
        many,
        activated.flag() if activated else False,
        field.extra(_PORT),
    )


def _mount_point(field: Field) -> MountPoint:
    read_only = field.get("readOnly")
    flag = read_only.flag() if read_only else False
    return MountPoint(field.need("name").name(), field.need("path").in_rootfs(), flag, field.extra(_MOUNT_POINT))


def _command(field: Field | None) -> tuple[str, ...]:
    words = tuple(item.passable() for item in field.items()) if field else ()
    if field and words and not words[0]:
        raise Field(words[0], f"{field.path}[0]").bad("the command must not be empty")
    return words


def is_environment_name(name: str) -> bool:
    """Whether an environment variable may be called so, by the specification."""
    return name[:1] in _LETTERS and all(c in _ENV_CHARS for c in name)


def _environment(field: Field | None, own: bool) -> dict[str, str]:
    result: dict[str, str] = {}
    for item in field.items() if field else ():
        name = item.need("name").filled()
        if not ("=" not in name if own else is_environment_name(name)):
            raise item.bad(f"{name[:64]!r} is no name of an environment variable")
        if name in result:
            raise item.bad(f"a second environment variable {name!r}")
        result[name] = item.need("value").passable()
    return result


def _handlers(field: Field | None) -> dict[str, tuple[str, ...]]:
    result: dict[str, tuple[str, ...]] = {}
    for item in field.items() if field else ():
        name = item.need("name").text()
        if name not in _HANDLERS:
            raise item.bad(f"{name[:64]!r} is not one of {', '.join(_HANDLERS)}")
        if name in result:
            raise item.bad(f"a second event handler {name!r}")
        result[name] = _command(item.need("exec"))
        if not result[name]:
            raise item.bad("exec must not be empty")
    return result


def parse_app(field: Field, *, own: bool = False) -> App:
    """The app section.

    Args:
        field: where it stands.
        own: podium wrote the manifest itself: what OCI images may have and appc can't say is allowed, namely any
            environment name and an empty group.

    Raises:
        BadInput: it is not as the specification says.
    """
    # The specification's own example spells it with a small "ids", and its implementation does not mind the case.
    gids = field.get("supplementaryGIDs") or field.get("supplementaryGids")
    directory = field.get("workingDirectory")
    group = field.need("group")
    ports, mount_points = field.get("ports"), field.get("mountPoints")
    annotations, labels = field.get("userAnnotations"), field.get("userLabels")
    return App(
        exec=_command(field.get("exec")),
        user=field.need("user").filled(),
        group=group.passable() if own else group.filled(),
        supplementary_gids=tuple(g.integer(0, ID_MAX) for g in gids.items()) if gids else (),
        event_handlers=_handlers(field.get("eventHandlers")),
        working_directory=directory.absolute() if directory and directory.value != "" else None,
        environment=_environment(field.get("environment"), own),
        mount_points=tuple(map(_mount_point, mount_points.items())) if mount_points else (),
        ports=tuple(map(parse_port, ports.items())) if ports else (),
        isolators=parse_isolators(field.get("isolators")),
        user_annotations=annotations.texts() if annotations else {},
        user_labels=labels.texts() if labels else {},
        extra=field.extra(_APP),
    )
