"""Network configurations: CNI lists in a folder, in lexical order, and the built-in `default`.

A file that is wrong is told by name and key, and breaks only the pods that ask for its network.
"""

from __future__ import annotations

import os

from podium.errors import BadInput, NotFound, PodiumError
from podium.named import NamedTuple
from podium.net import cni

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from podium.config import Config

VERSIONS = ("0.3.1", "0.4.0", "1.0.0", "1.1.0")
MAX_FILE = 1 << 20  # bytes
BUILT_IN = "(built in)"


class Settings(NamedTuple):
    """The table [net] of the configuration: folders, and what the built-in `default` is made of."""

    folder: str
    plugin_dirs: list[str]
    bridge: str
    subnets: list[str]
    ipam_dir: str

    @classmethod
    def of(cls, config: Config) -> Settings:
        """As configured."""
        names = ("config-dir", "plugin-dirs", "bridge", "subnets", "ipam-dir")
        return cls(*(config.get("net", name) for name in names))


class NetConf(NamedTuple):
    """A configuration list.

    Attributes:
        name: of the network.
        file: where it is from.
        version: of CNI that it is written for.
        plugins: each plugin's object.
    """

    name: str
    file: str
    version: str
    plugins: list[dict[str, Any]]


class Wrong(NamedTuple):
    """A file that can't be used: the network's name if that can be told, and why."""

    name: str
    file: str
    error: PodiumError


def scan(settings: Settings) -> tuple[list[NetConf], list[Wrong]]:
    """All networks, and the files that are wrong. Of two of one name the first in lexical order counts."""
    found: dict[str, NetConf] = {}
    wrong: list[Wrong] = []
    try:
        names = sorted(os.listdir(settings.folder))
    except (FileNotFoundError, NotADirectoryError):
        names = []
    for file in names:
        if not file.endswith((".conflist", ".conf")):
            continue
        path = os.path.join(settings.folder, file)
        name = os.path.splitext(file)[0]
        try:
            content = _read(path)
            if isinstance(content.get("name"), str):
                name = content["name"]
            conf = parse(content, path, single=file.endswith(".conf"))
            found.setdefault(conf.name, conf)
        except PodiumError as e:
            wrong.append(Wrong(name, path, e))
    if "default" not in found and all(w.name != "default" for w in wrong):
        found["default"] = built_in(settings)
    return list(found.values()), wrong


def find(name: str, settings: Settings) -> NetConf:
    """The network of that name, whose plugins are installed.

    Raises:
        NotFound: there is none.
        BadInput: its file is wrong; names file and key.
        HostLacks: a plugin is not installed.
    """
    found, wrong = scan(settings)
    conf = next((conf for conf in found if conf.name == name), None)
    if conf is None:
        for each in wrong:
            if each.name == name:
                raise each.error
        known = ", ".join(sorted({"host", "none", *(conf.name for conf in found)}))
        raise NotFound(
            f"there is no network {name!r} (networks: {known})",
            hint=f"add a CNI configuration list to {settings.folder}, or choose another with --net",
            subject=name,
        )
    check_plugins(conf, settings)
    return conf


def check_plugins(conf: NetConf, settings: Settings) -> None:
    """Refuse a network whose plugins are not installed. Raises HostLacks, naming file and key."""
    from podium.errors import HostLacks

    for number, plugin in enumerate(conf.plugins):
        if plugin["type"] == cni.BUILT_IN:
            continue
        wanted = [(f"plugins[{number}].type", plugin["type"])]
        ipam = plugin.get("ipam")
        if isinstance(ipam, dict) and isinstance(ipam.get("type"), str):
            wanted.append((f"plugins[{number}].ipam.type", ipam["type"]))
        for key, type in wanted:
            if cni.find(type, settings.plugin_dirs) is None:
                raise HostLacks(
                    f"{conf.file}: {key}: the CNI plugin {type!r} is in none of {', '.join(settings.plugin_dirs)}",
                    hint="apt-get install containernetworking-plugins",
                    subject=conf.file,
                )


def _read(path: str) -> dict[str, Any]:
    import json

    from podium.records import read_bytes

    try:
        content = json.loads(read_bytes(path, MAX_FILE))
    except OSError as e:
        raise BadInput(f"{path}: it can't be read: {e.strerror}", subject=path) from None
    except (ValueError, RecursionError) as e:
        raise BadInput(f"{path}: it is no JSON: {e}", subject=path) from None
    if not isinstance(content, dict):
        raise BadInput(f"{path}: it is no JSON object", subject=path)
    return content


def parse(content: dict[str, Any], path: str, *, single: bool) -> NetConf:
    """A configuration list; with `single` a file of the older form, for one plugin.

    Raises:
        BadInput: names file and key.
    """

    def bad(key: str, why: str) -> BadInput:
        return BadInput(f"{path}: {key}: {why}", hint="see docs/networking.md", subject=path)

    name = content.get("name")
    if not isinstance(name, str) or not valid_name(name):
        raise bad("name", f"{name!r} is no name of a network: a letter or digit, then letters, digits, - _ .")
    if name in ("host", "none"):
        raise bad("name", f"{name!r} has a meaning of its own")
    version = content.get("cniVersion")
    if version not in VERSIONS:
        raise bad("cniVersion", f"{version!r} is none of {', '.join(VERSIONS)}")
    plugins = [content] if single else content.get("plugins")
    if not isinstance(plugins, list) or not plugins:
        raise bad("plugins", "it is no list of at least one plugin")
    for number, plugin in enumerate(plugins):
        key = "" if single else f"plugins[{number}]"
        if not isinstance(plugin, dict):
            raise bad(key, "it is no object")
        type = plugin.get("type")
        if not isinstance(type, str) or not type or "/" in type or type.startswith("."):
            raise bad(f"{key}.type".lstrip("."), f"{type!r} is no name of a plugin")
        for member in ("ipam", "capabilities", "dns"):
            if member in plugin and not isinstance(plugin[member], dict):
                raise bad(f"{key}.{member}".lstrip("."), "it is no object")
    return NetConf(name, path, version, [dict(plugin) for plugin in plugins])


def valid_name(name: str) -> bool:
    """Whether the CNI specification allows the name (it becomes a folder's)."""
    plain = name.replace("-", "").replace("_", "").replace(".", "")
    return name[:1].isascii() and name[:1].isalnum() and plain.isascii() and plain.isalnum() and len(name) <= 63


def built_in(settings: Settings) -> NetConf:
    """`default`, where no file has it: a bridge, addresses of both families, masquerading, published ports."""
    subnets = [s for s in settings.subnets if ":" not in s or _host_has_ipv6()]
    bridge = {
        "type": "bridge",
        "bridge": settings.bridge,
        "isGateway": True,
        "ipMasq": True,
        "hairpinMode": True,
        "ipam": {
            "type": "host-local",
            "dataDir": settings.ipam_dir,
            "ranges": [[{"subnet": subnet}] for subnet in subnets],
            "routes": [{"dst": "::/0" if ":" in subnet else "0.0.0.0/0"} for subnet in subnets],
        },
    }
    if any(cni.find(type, settings.plugin_dirs) is None for type in ("bridge", "host-local")):
        ipam = {"type": "host-local", "dataDir": settings.ipam_dir, "subnets": subnets}
        own = {
            "type": cni.BUILT_IN,
            "bridge": settings.bridge,
            "ipam": ipam,
            "capabilities": {"portMappings": True},
        }
        return NetConf("default", BUILT_IN, "1.0.0", [own])
    portmap = {"type": "portmap", "capabilities": {"portMappings": True}}
    return NetConf("default", BUILT_IN, "1.0.0", [bridge, portmap])


def _host_has_ipv6() -> bool:
    try:
        with open("/proc/sys/net/ipv6/conf/default/disable_ipv6", encoding="ascii") as f:
            return f.read().strip() == "0"
    except OSError:
        return False
