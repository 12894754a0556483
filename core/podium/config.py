"""Layered configuration: built-in values, /usr/lib/podium/config.toml, /etc/podium/config.toml, then --config FILE.

Later layers win, table by table. The tables and keys are listed in DEFAULTS; an unknown one is refused by name, since a
misspelt limit is worse than none.
"""

from __future__ import annotations

import os

from podium.errors import BadInput
from podium.paths import DEFAULT_CGROUP

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

PLUGINS = "plugins"
LAYERS = ("/usr/lib/podium/config.toml", "/etc/podium/config.toml")

DEFAULTS: dict[str, dict[str, Any]] = {
    "stage1": {
        "default": "nspawn",  # for new pods that name none
        "revoked": [],  # pins (sha256-…) and plugin digests (sha256:…) that must not be loaded any more
        "prepare-timeout": 120.0,  # seconds that a plugin's hook may take
        "stop-timeout": 60.0,
        "gc-timeout": 60.0,
    },
    "gc": {"grace-period": 1800.0, "expire-prepared": 86400.0},  # seconds
    "cgroup": {"parent": DEFAULT_CGROUP},  # below the root of every hierarchy
    "hooks": {"dir": "/etc/podium/hooks.d"},  # commands on events
    "net": {
        "config-dir": "/etc/podium/net.d",  # CNI configuration lists
        "plugin-dirs": ["/usr/lib/cni", "/opt/cni/bin"],
        # What the network `default` is made of, where no file in config-dir has that name.
        "bridge": "podium0",
        "subnets": ["10.88.0.0/16", "fd5b:706f:6469::/64"],
        "ipam-dir": "/var/lib/cni/networks",
    },
    "nspawn": {"register": False},  # make pods known to systemd-machined, where it can know them
    "kvm": {
        "accel": "auto",  # or kvm, or tcg
        "kernel": "",  # path of a distribution's vmlinuz; empty: the newest of this host
        "boot-timeout": 120.0,  # seconds; a loaded host without KVM may need a good part of it
    },
    PLUGINS: {},  # what stage1 plugins of others are given: a table for each, whose keys are their own business
    "images": {"max-bytes": 64 << 30, "max-entries": 4_000_000},  # of one unpacked image
}

_STAGE1 = ("nspawn", "kvm")  # tables with a stage1's name


class Config:
    """The merged configuration, and where each value that is not built in came from."""

    def __init__(self, values: dict[str, dict[str, Any]], origins: dict[str, str]) -> None:
        self.values = values
        self.origins = origins

    def get(self, table: str, key: str) -> Any:
        """The value of a key of DEFAULTS."""
        return self.values[table][key]

    def of_stage1(self, name: str) -> dict[str, Any]:
        """What a stage1 plugin is given: of podium's own plugins the table of that name, of another [plugins.NAME]."""
        found: dict[str, Any] = (self.values if name in _STAGE1 else self.values[PLUGINS]).get(name, {})
        return found


def load(path: str | None = None) -> Config:
    """Read all layers.

    Args:
        path: the file of --config; it must exist.

    Raises:
        BadInput: a file is no TOML, or has an unknown key or a value of the wrong type; names file and key.
    """
    values = {table: dict(keys) for table, keys in DEFAULTS.items()}
    origins: dict[str, str] = {}
    for layer in (*LAYERS, path):
        if layer is not None and (layer == path or os.path.exists(layer)):
            _merge(values, origins, layer)
    return Config(values, origins)


def _merge(values: dict[str, dict[str, Any]], origins: dict[str, str], layer: str) -> None:
    import tomllib

    try:
        with open(layer, "rb") as f:
            content = tomllib.load(f)
    except OSError as e:
        raise BadInput(f"the configuration {layer} can't be read: {e.strerror}", subject=layer) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as e:
        raise BadInput(f"the configuration {layer} is no TOML: {e}", subject=layer) from None
    for table, keys in content.items():
        if table not in values or not isinstance(keys, dict):
            known = ", ".join(f"[{t}]" for t in values)
            raise BadInput(f"{layer}: unknown table [{table}]", hint=f"known tables: {known}", subject=layer)
        if table == PLUGINS:
            _merge_plugins(values[PLUGINS], origins, layer, keys)
            continue
        for key, value in keys.items():
            if key not in values[table]:
                known = ", ".join(values[table])
                raise BadInput(f"{layer}: unknown key {key!r} in [{table}]", hint=f"known keys: {known}", subject=layer)
            values[table][key] = _typed(layer, table, key, value)
            origins[f"{table}.{key}"] = layer


def _merge_plugins(values: dict[str, Any], origins: dict[str, str], layer: str, tables: dict[str, Any]) -> None:
    """[plugins.NAME]: what is in it is for the plugin to judge, but it has to reach it as JSON."""
    for name, keys in tables.items():
        if name in _STAGE1:
            raise BadInput(
                f"{layer}: unknown table [{PLUGINS}.{name}]",
                hint=f"the settings of {name} are in [{name}]",
                subject=layer,
            )
        if not isinstance(keys, dict):
            raise BadInput(f"{layer}: {PLUGINS}.{name} must be a table", subject=layer)
        for key, value in keys.items():
            if not _plain(value):
                raise BadInput(
                    f"{layer}: {PLUGINS}.{name}.{key} has a value that is no text, number, boolean, list or table",
                    hint="write dates and times as text",
                    subject=layer,
                )
            origins[f"{PLUGINS}.{name}.{key}"] = layer
        values[name] = {**values.get(name, {}), **keys}


def _plain(value: Any) -> bool:
    """Whether JSON has it."""
    if isinstance(value, dict):
        return all(map(_plain, value.values()))
    if isinstance(value, list):
        return all(map(_plain, value))
    if isinstance(value, float):
        return value - value == 0  # neither infinite nor no number
    return isinstance(value, str | int)


def _typed(layer: str, table: str, key: str, value: Any) -> Any:
    default = DEFAULTS[table][key]
    if isinstance(default, float):
        from podium.units import duration

        if isinstance(value, str):
            try:
                return duration(value)
            except BadInput as e:
                raise BadInput(f"{layer}: {table}.{key}: {e.message}", subject=layer) from None
        if isinstance(value, int) and not isinstance(value, bool):
            return float(value)
    if type(value) is not type(default):
        raise BadInput(
            f"{layer}: {table}.{key} must be of type {type(default).__name__}, not {type(value).__name__}",
            subject=layer,
        )
    return value
