"""What a pin is made of: podium's core, a plugin's package, and the pure-Python libraries that they import."""

from __future__ import annotations

import os

from podium.errors import PluginRefused
from podium.named import NamedTuple
from podium.stage1.registry import Plugin, locate

# What podium itself imports. Pure Python is copied; what has compiled parts is only named, with its version.
_LIBRARIES = {"pluggy": "pluggy", "toml": "toml", "pyroute2": "pyroute2"}
_NATIVE = {"psutil": "psutil", "prctl": "python-prctl", "_prctl": "python-prctl", "zstandard": "zstandard"}
_SKIP_DIRS = frozenset({"__pycache__"})


class Root(NamedTuple):
    """A package (folder) or module (file) that goes into a pin as lib/<name>."""

    name: str
    path: str


class Sources(NamedTuple):
    """What a pin is made of."""

    roots: tuple[Root, ...]
    libraries: dict[str, str]  # distribution → version, copied
    native: dict[str, str]  # importable name → version, not copied


def sources_of(plugin: Plugin) -> Sources:
    """Where the code is that a pin of the plugin copies, as installed now.

    Raises:
        PluginRefused: the plugin's code can't be found.
    """
    roots, libraries, native = [], {}, {}
    for package in ("podium", plugin.package):
        path = locate(package)
        if path is None:
            raise PluginRefused(
                f"the code of stage1 plugin {plugin.name!r} ({plugin.entry}) can't be found",
                hint=f"reinstall {plugin.distribution}",
                subject=plugin.name,
            )
        roots.append(Root(os.path.basename(path), path))
    for package, distribution in {**_LIBRARIES, **_own_libraries(plugin)}.items():
        path = locate(package)
        if path is None:
            continue
        if package in _NATIVE or _has_compiled_parts(path):
            native[package] = _version(distribution)
        else:
            roots.append(Root(os.path.basename(path), path))
            libraries[distribution] = _version(distribution)
    native.update({package: _version(dist) for package, dist in _NATIVE.items() if locate(package)})
    return Sources(tuple(dict.fromkeys(roots)), libraries, native)


def _own_libraries(plugin: Plugin) -> dict[str, str]:
    """Importable name → distribution, of all that a third party's plugin requires, podium's own libraries left out."""
    if plugin.distribution == "podium":
        return {}
    from importlib.metadata import PackageNotFoundError, distribution

    found: dict[str, str] = {}
    seen = {"podium", "pluggy", "toml", "pyroute2", "psutil", "python-prctl"}
    queue = [plugin.distribution]
    while queue:
        try:
            dist = distribution(queue.pop())
        except PackageNotFoundError:
            continue  # an optional requirement that is not installed
        for requirement in dist.requires or []:
            name = _requirement_name(requirement)
            if name not in seen:
                seen.add(name)
                queue.append(name)
        if dist.name == plugin.distribution:
            continue
        top = {str(path).split("/")[0] for path in dist.files or [] if str(path).endswith((".py", ".so"))}
        found.update({name.split(".")[0]: dist.name for name in top if not name.startswith(("..", "__pycache__"))})
    return found


def _requirement_name(requirement: str) -> str:
    """The distribution that a requirement (PEP 508) names, as PEP 503 spells it."""
    end = next((i for i, c in enumerate(requirement) if not (c.isalnum() or c in "-_.")), len(requirement))
    return requirement[:end].lower().replace("_", "-").replace(".", "-")


def _has_compiled_parts(path: str) -> bool:
    return path.endswith(".so") or (os.path.isdir(path) and any(name.endswith(".so") for name, _, _ in walk(path)))


def _version(distribution: str) -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(distribution)
    except PackageNotFoundError:
        return "unknown"


def walk(folder: str, prefix: str = "") -> list[tuple[str, str, os.stat_result]]:
    """(name below the folder, path, stat) of every file but bytecode, sorted."""
    found = []
    with os.scandir(folder) as entries:
        for entry in sorted(entries, key=lambda e: e.name):
            if entry.is_dir(follow_symlinks=False):
                if entry.name not in _SKIP_DIRS:
                    found += walk(entry.path, f"{prefix}{entry.name}/")
            elif not entry.name.endswith(".pyc"):
                found.append((prefix + entry.name, entry.path, entry.stat()))
    return found


def files(roots: tuple[Root, ...]) -> list[tuple[str, str, os.stat_result]]:
    """(name in the pin, path, stat) of every file below the roots."""
    found = []
    for root in roots:
        if os.path.isdir(root.path):
            found += walk(root.path, f"lib/{root.name}/")
        else:
            found.append((f"lib/{root.name}", root.path, os.stat(root.path)))
    return found


def digests(roots: tuple[Root, ...]) -> dict[str, str]:
    """Name in the pin → sha256 of every file below the roots."""
    from podium.linux.files import sha256

    return {name: sha256(path) for name, path, _ in files(roots)}


def stamp(roots: tuple[Root, ...]) -> int:
    """A number that changes when any file below the roots does."""
    from struct import pack
    from zlib import crc32

    found = files(roots)
    stats = [number for _, _, s in found for number in (s.st_ino, s.st_size, s.st_mtime_ns, s.st_ctime_ns)]
    return crc32(pack(f"{len(stats)}q", *stats), crc32("\0".join([name for name, _, _ in found]).encode()))
