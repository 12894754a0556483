"""Isolators of the appc specification (ace.md), and podium's own, validated and turned into small values.

Podium's own, all for an app:

- `podium/pids`: `{"limit": 64}`, most processes and threads;
- `podium/rlimits`: `{"NOFILE": {"soft": 1024, "hard": 4096}}`, -1 is unlimited (setrlimit(2));
- `podium/masked-paths`, `podium/readonly-paths`: `{"set": ["/proc/kcore"]}`, absolute paths in the rootfs.

A name that is not known is kept as `Unknown`: prepare can refuse it by name, or pass it to a stage1 that knows it.
"""

from __future__ import annotations

from podium.appc.fields import Field
from podium.appc.quantity import quantity
from podium.named import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

    from podium.types import Isolators

_RLIMITS = frozenset(
    (
        *("AS", "CORE", "CPU", "DATA", "FSIZE", "LOCKS", "MEMLOCK", "MSGQUEUE", "NICE", "NOFILE", "NPROC", "RSS"),
        *("RTPRIO", "RTTIME", "SIGPENDING", "STACK"),
    )
)
_RETAIN, _REMOVE = "os/linux/capabilities-retain-set", "os/linux/capabilities-remove-set"
_REVOKE = "os/linux/capabilities-revoke-set"  # how rkt's first versions spelt the remove set
_CAPS = (_RETAIN, _REMOVE, _REVOKE)
_SECCOMP = ("os/linux/seccomp-retain-set", "os/linux/seccomp-remove-set")


class Resource(NamedTuple):
    """resource/memory (bytes) or resource/cpu (millicores); an absent request equals the limit."""

    request: int | None
    limit: int | None


class Limit(NamedTuple):
    """resource/block-bandwidth, -iops, network-bandwidth (bytes or operations per second) or podium/pids."""

    limit: int


class Number(NamedTuple):
    """os/linux/cpu-shares or os/linux/oom-score-adj."""

    value: int


class Flag(NamedTuple):
    """os/linux/no-new-privileges."""

    value: bool


class CapabilitySet(NamedTuple):
    """Names (`CAP_CHOWN`); `retain` tells whether they are kept (empty: none is) or taken from the default set."""

    retain: bool
    names: tuple[str, ...]


class SeccompSet(NamedTuple):
    """System calls and @wildcards; an empty `errno` means that a blocked call ends the app with SIGSYS."""

    retain: bool
    names: tuple[str, ...]
    errno: str


class Sysctls(NamedTuple):
    """os/unix/sysctl."""

    values: dict[str, str]


class Rlimits(NamedTuple):
    """Name (`NOFILE`) → (soft, hard); -1 is unlimited."""

    values: dict[str, tuple[int, int]]


class Paths(NamedTuple):
    """podium/masked-paths or podium/readonly-paths."""

    paths: tuple[str, ...]


class Unknown(NamedTuple):
    """An isolator that podium does not know."""

    name: str


Value = Resource | Limit | Number | Flag | CapabilitySet | SeccompSet | Sysctls | Rlimits | Paths | Unknown


class Isolator(NamedTuple):
    """One isolator: `raw` is its value as it was written."""

    name: str
    value: Value
    raw: Any

    def to_json(self) -> dict[str, Any]:
        """As it stands in a manifest."""
        return {"name": self.name, "value": self.raw}


def _amount(field: Field, *, milli: bool = False) -> int:
    if isinstance(field.value, (int, float)) and not isinstance(field.value, bool):
        text = str(field.value) if abs(field.value) < 2**63 else "far off"
    else:
        text = field.text()
    try:
        return quantity(text, milli=milli)
    except ValueError as e:
        raise field.bad(str(e)) from None


def _default(field: Field, wanted: bool) -> None:
    default = field.get("default")
    if (default.flag() if default else False) is not wanted:
        raise field.bad(f"default must be {str(wanted).lower()}")


def _resource(field: Field, milli: bool) -> Resource:
    _default(field, False)
    request, limit = field.get("request"), field.get("limit")
    if request is None and limit is None:
        raise field.bad("has neither request nor limit")
    low = _amount(request, milli=milli) if request else None
    high = _amount(limit, milli=milli) if limit else None
    if low is not None and high is not None and low > high:
        raise field.bad("the request is larger than the limit")
    return Resource(low, high)


def _throttle(field: Field) -> Limit:
    _default(field, True)
    if field.get("request"):
        raise field.bad("request is not supported by this resource")
    return Limit(_amount(field.need("limit")))


def _capabilities(field: Field, retain: bool) -> CapabilitySet:
    found = []
    for item in field.need("set").items():
        text = item.text()
        if not text.startswith("CAP_") or not text[4:].replace("_", "").isalnum() or text != text.upper():
            raise item.bad(f"{text[:64]!r} is no capability (such as CAP_NET_BIND_SERVICE)")
        found.append(text)
    return CapabilitySet(retain, tuple(dict.fromkeys(found)))


def _seccomp(field: Field, retain: bool) -> SeccompSet:
    names = []
    for item in field.need("set").items():
        text = item.filled()
        if not text.isascii() or not text.isprintable() or " " in text:
            raise item.bad(f"{text[:64]!r} is no system call")
        names.append(text)
    if not names:
        raise field.bad("set must not be empty")
    errno = field.get("errno")
    code = errno.text() if errno else ""
    if errno and code and not (code[0] == "E" and code.isascii() and code.isalnum() and code == code.upper()):
        raise errno.bad(f"{code[:64]!r} is no error code (such as EPERM)")
    return SeccompSet(retain, tuple(dict.fromkeys(names)), code)


def _sysctl(field: Field) -> Sysctls:
    for key, value in field.texts().items():
        parts = key.replace("/", ".").split(".")
        if not all(parts) or not key.isprintable() or " " in key:
            raise field.bad(f"{key[:64]!r} is no kernel parameter (such as net.ipv4.ip_forward)")
        if "\0" in value or "\n" in value:
            raise field.bad(f"the value of {key[:64]!r} has a NUL or a line break")
    return Sysctls(field.texts())


def _rlimits(field: Field) -> Rlimits:
    result: dict[str, tuple[int, int]] = {}
    for key in field.members():
        name = key.upper().removeprefix("RLIMIT_")
        if name not in _RLIMITS or name in result:
            raise field.bad(f"{key[:64]!r} is {'there twice' if name in result else 'no resource limit'}")
        pair = field.need(key)
        soft, hard = (pair.need(which).integer(-1, 2**63 - 1) for which in ("soft", "hard"))
        if hard != -1 and not 0 <= soft <= hard:
            raise pair.bad("the soft limit is above the hard limit")
        result[name] = (soft, hard)
    return Rlimits(result)


def _paths(field: Field) -> Paths:
    return Paths(tuple(item.absolute() for item in field.need("set").items()))


_PARSERS: dict[str, Callable[[Field], Value]] = {
    "resource/memory": lambda f: _resource(f, False),
    "resource/cpu": lambda f: _resource(f, True),
    "resource/block-bandwidth": _throttle,
    "resource/block-iops": _throttle,
    "resource/network-bandwidth": _throttle,
    "os/linux/cpu-shares": lambda f: Number(f.integer(2, 262144)),
    "os/linux/oom-score-adj": lambda f: Number(f.integer(-1000, 1000)),
    "os/linux/no-new-privileges": lambda f: Flag(f.flag()),
    _RETAIN: lambda f: _capabilities(f, True),
    _REMOVE: lambda f: _capabilities(f, False),
    _REVOKE: lambda f: _capabilities(f, False),
    _SECCOMP[0]: lambda f: _seccomp(f, True),
    _SECCOMP[1]: lambda f: _seccomp(f, False),
    "os/unix/sysctl": _sysctl,
    "podium/pids": lambda f: Limit(f.need("limit").integer(1, 4194304)),
    "podium/rlimits": _rlimits,
    "podium/masked-paths": _paths,
    "podium/readonly-paths": _paths,
}
KNOWN = frozenset(_PARSERS)


def parse_isolators(field: Field | None) -> tuple[Isolator, ...]:
    """The isolators of an app or a pod.

    A known isolator may be there once (the specification says so for some, and is silent on what two would mean).

    Raises:
        BadInput: a value is wrong, one is there twice, or a retain and a remove set of one class are there together.
    """
    found: dict[str, Isolator] = {}
    result = []
    for item in field.items() if field else ():
        name = item.need("name").identifier()
        parser = _PARSERS.get(name)
        if parser is None:
            result.append(Isolator(name, Unknown(name), item.members().get("value")))
            continue
        clashes = _CAPS if name in _CAPS else _SECCOMP if name in _SECCOMP else (name,)
        for other in clashes:
            if other in found:
                raise item.bad(f"{name} is there twice" if other == name else f"{name} can't be used with {other}")
        found[name] = Isolator(name, parser(item.need("value")), item.value["value"])
        result.append(found[name])
    return tuple(result)


def make(name: str, raw: Any, where: str) -> Isolator:
    """One isolator, as of a command line option.

    Args:
        name: of the isolator.
        raw: its value, as it would stand in a manifest.
        where: names it in errors (`--memory`).

    Raises:
        BadInput: the value is wrong.
    """
    parser = _PARSERS.get(name)
    return Isolator(name, parser(Field(raw, where)) if parser else Unknown(name), raw)


def combine(isolators: Iterable[Isolator]) -> Isolators:
    """Isolators of one app or pod as a stage1 is given them (`podium.types.Isolators`).

    resource/network-bandwidth has no field there and is passed by name, as one that podium does not know.
    """
    from podium.types import Isolators, Seccomp

    given: dict[str, Any] = {}
    unknown = []
    for isolator in isolators:
        name, value = isolator.name, isolator.value
        if isinstance(value, Resource):
            kind = name.removeprefix("resource/")
            given |= {f"{kind}_limit": value.limit, f"{kind}_request": value.request}
        elif isinstance(value, Limit) and name != "resource/network-bandwidth":
            given[name.partition("/")[2].replace("-", "_")] = value.limit
        elif isinstance(value, Number):
            given[name.removeprefix("os/linux/").replace("-", "_")] = value.value
        elif isinstance(value, Flag):
            given["no_new_privileges"] = value.value
        elif isinstance(value, CapabilitySet):
            given["caps_retain" if value.retain else "caps_remove"] = value.names
        elif isinstance(value, SeccompSet):
            mode = "retain" if value.retain else "remove"
            given["seccomp"] = Seccomp(mode=mode, names=value.names, errno=value.errno)
        elif isinstance(value, Sysctls):
            given["sysctls"] = value.values
        elif isinstance(value, Rlimits):
            given["rlimits"] = value.values
        elif isinstance(value, Paths):
            given[name.removeprefix("podium/").replace("-", "_")] = value.paths
        else:
            unknown.append(name)
    return Isolators(**given, unknown=tuple(unknown))
