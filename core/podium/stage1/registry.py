"""Which stage1 plugins are installed: found by name, never imported here.

podium's own come from a table, so that most commands need no scan of all distributions' metadata.
"""

from __future__ import annotations

import os
from _frozen_importlib_external import PathFinder  # importlib.machinery brings `warnings`

from podium import __version__
from podium.errors import NotFound, PluginRefused
from podium.named import NamedTuple

GROUP = "podium.stage1"
BUILTIN = {name: f"podium_{name}.plugin" for name in ("nspawn", "kvm", "fly")}


class Plugin(NamedTuple):
    """An installed plugin.

    Attributes:
        name: of the plugin, as its entry point has it.
        entry: `module` or `module:object`.
        distribution: the distribution that brings it.
        version: of the distribution.
    """

    name: str
    entry: str
    distribution: str
    version: str

    @property
    def package(self) -> str:
        """The top-level package or module."""
        return self.entry.partition(":")[0].partition(".")[0]


def locate(package: str) -> str | None:
    """Path of a top-level package's folder or of a module's file, without importing it; None if it is not there."""
    spec = PathFinder.find_spec(package)
    if spec is None:
        return None
    if spec.submodule_search_locations:
        return next(iter(spec.submodule_search_locations))
    return spec.origin


def _has(plugin: Plugin) -> bool:
    """Whether the plugin's module is there: a built-in's folder may exist without it."""
    where, module = locate(plugin.package), plugin.entry.partition(":")[0]
    if where is None or "." not in module:
        return where is not None
    path = os.path.join(where, *module.split(".")[1:])
    return os.path.exists(path + ".py") or os.path.isdir(path)


def builtin(name: str) -> Plugin | None:
    """podium's own plugin of that name, if it is there."""
    if name not in BUILTIN:
        return None
    plugin = Plugin(name, BUILTIN[name], "podium", __version__)
    return plugin if _has(plugin) else None


def installed(name: str) -> Plugin:
    """The one installed plugin of that name.

    Raises:
        NotFound: there is none.
        PluginRefused: several distributions claim the name.
    """
    if (plugin := builtin(name)) is not None:
        return plugin
    claims = _claims().get(name, [])
    if not claims:
        raise NotFound(
            f"no stage1 plugin {name!r} is installed",
            hint="'podium stage1 list' shows what is installed",
            subject=name,
        )
    if len(claims) > 1:
        raise PluginRefused(
            f"stage1 plugin {name!r} is claimed by several distributions: "
            + ", ".join(f"{p.distribution} {p.version}" for p in claims),
            hint="uninstall all but one",
            subject=name,
        )
    return claims[0]


def _claims() -> dict[str, list[Plugin]]:
    from importlib.metadata import entry_points

    claims: dict[str, list[Plugin]] = {}
    for point in entry_points(group=GROUP):
        dist = point.dist
        plugin = Plugin(point.name, point.value, dist.name if dist else "unknown", dist.version if dist else "0")
        known = claims.setdefault(point.name, [])
        if plugin not in known:  # an editable install can show its metadata twice
            known.append(plugin)
    return claims


def names() -> list[str]:
    """Names of all installed plugins, podium's own first."""
    own = [name for name in BUILTIN if builtin(name)]
    return own + sorted(set(_claims()) - set(BUILTIN))


def contenders(name: str) -> list[Plugin]:
    """Other distributions' plugins that claim a built-in's name; they are never used."""
    return [p for p in _claims().get(name, []) if name in BUILTIN and p.distribution != "podium"]
