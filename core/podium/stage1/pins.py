"""Pins: the exact code answerable for a pod, kept as it was when the pod was prepared.

    stage1/sha256-<hex>/
      pin.json          sealed record: the plugin, and every file with its sha256
      boot.py           starts a worker from this folder (docs/on-disk-format.md, "The worker protocol")
      lib/podium/…      core as it was
      lib/<plugin>/…    the plugin's package as it was
      lib/…             the pure-Python libraries that they import

The pin's name is a digest of the plugin's name, its entry and all files, so what is installed *is* a pin exactly when
the digests are equal. Digests are cached against the files' inode, size and times.
"""

from __future__ import annotations

import os

from podium import __version__, records
from podium.errors import Corrupt, PluginRefused
from podium.named import NamedTuple
from podium.paths import DataDir
from podium.stage1.registry import Plugin, locate
from podium.stage1.sources import Root, Sources, digests, files, sources_of, stamp, walk

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

FILE = "pin.json"
BOOT = "boot.py"
VERSION = 1


class Pin(NamedTuple):
    """A pin's identity.

    Attributes:
        pin: `sha256-<hex>`, its folder's name.
        digest: `sha256:<hex>` of the plugin's package alone.
    """

    pin: str
    digest: str


def current(data: DataDir, plugin: Plugin) -> Pin:
    """The identity of the plugin's and podium's code as installed now. About a millisecond when it is cached.

    Raises:
        PluginRefused: the plugin's code can't be found.
    """
    cached = _read_cache(data, plugin)
    if cached is not None:
        return cached
    sources = sources_of(plugin)
    before = stamp(sources.roots)  # first: files that change meanwhile must not pass for what was read
    pin = _identify(plugin, digests(sources.roots))
    _write_cache(data, plugin, sources, before, pin)
    return pin


def ensure(data: DataDir, plugin: Plugin, pin: Pin) -> None:
    """Make sure that `pin`, which `current` gave, is stored. The caller holds the store's lock shared.

    Raises:
        PluginRefused: the plugin's code is not that any more.
    """
    if not os.path.exists(os.path.join(data.pin(pin.pin), FILE)):
        _store(data, plugin, pin)


def verify(data: DataDir, pin: str) -> dict[str, Any]:
    """Check a stored pin, file by file; returns its pin.json.

    Raises:
        FileNotFoundError: it is not stored.
        Corrupt: a file is missing, altered or not its own.
    """
    from podium.linux.files import sha256

    folder = data.pin(pin)
    what = f"the pin {pin}"
    content = records.read(os.path.join(folder, FILE), what)
    expected = dict(content["files"])
    found = {name: path for name, path, _ in walk(folder) if name != FILE}
    for name in sorted(expected.keys() | found.keys()):
        if name not in found:
            raise Corrupt(f"{what} is damaged: {name} is missing", subject=pin)
        if name not in expected:
            raise Corrupt(f"{what} is damaged: {name} does not belong to it", subject=pin)
        if sha256(found[name]) != expected[name]:
            raise Corrupt(f"{what} is damaged: {name} was altered", subject=pin)
    plugin = Plugin(content["plugin"]["name"], content["plugin"]["entry"], "", "")
    if _identify(plugin, {k: v for k, v in expected.items() if k != BOOT}).pin != pin:
        raise Corrupt(f"{what} is damaged: it is not what its name says", subject=pin)
    return content


def stored(data: DataDir) -> list[str]:
    """Names of all stored pins."""
    try:
        return sorted(name for name in os.listdir(data.pins) if name.startswith("sha256-"))
    except FileNotFoundError:
        return []


def collect(data: DataDir, grace: float, *, dry_run: bool = False) -> list[str]:
    """Remove the pins that no pod names and that are older than `grace` seconds; returns their names.

    The caller holds the store's lock alone. While an envelope can't be read, all pins stay.
    """
    import time

    from podium.linux.tree import remove_tree
    from podium.pods.envelope import referenced

    refs = referenced(data)
    if refs.unreadable:
        return []
    unused = [pin for pin in stored(data) if pin not in refs.pins]
    old = [pin for pin in unused if time.time() - os.stat(data.pin(pin)).st_mtime >= grace]
    for pin in [] if dry_run else old:
        remove_tree(data.pins, pin)
    return old


def native_paths() -> list[str]:
    """Folders where what a pin could not copy is found."""
    import sysconfig

    return list(dict.fromkeys((sysconfig.get_path("platlib"), sysconfig.get_path("purelib"))))


def _identify(plugin: Plugin, contents: dict[str, str]) -> Pin:
    import hashlib
    import json

    def digest(content: object) -> str:
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

    own = {k: v for k, v in contents.items() if k.startswith((f"lib/{plugin.package}/", f"lib/{plugin.package}.py"))}
    return Pin("sha256-" + digest([plugin.name, plugin.entry, contents]), "sha256:" + digest(own))


def plugin_digest(plugin: Plugin, folder: str | None) -> str:
    """The digest of a plugin's code: as installed, or of the pin in `folder`."""
    if folder is not None:
        digest = records.read(os.path.join(folder, FILE), "the pin")["plugin"]["digest"]
        assert isinstance(digest, str)
        return digest
    return _identify(plugin, digests(sources_of(plugin).roots)).digest


def _store(data: DataDir, plugin: Plugin, pin: Pin) -> None:
    from podium.linux.files import fsync_dir, rename_noreplace
    from podium.store.workspace import Workspace

    sources = sources_of(plugin)
    boot = os.path.join(os.path.dirname(os.path.abspath(__file__)), BOOT)
    with Workspace(data) as work:
        made = os.path.join(work.path, "pin")
        copied = {name: _copy(path, os.path.join(made, name)) for name, path, _ in files(sources.roots)}
        if _identify(plugin, copied) != pin:
            raise PluginRefused(
                f"the code of stage1 plugin {plugin.name!r} changed while it was copied",
                hint="try again once the upgrade has ended",
                subject=plugin.name,
            )
        copied[BOOT] = _copy(boot, os.path.join(made, BOOT))
        record = {
            "pin": VERSION,
            "plugin": {**plugin._asdict(), "digest": pin.digest},
            "podium": __version__,
            "python": ".".join(map(str, _python())),
            "libraries": sources.libraries,
            "native": sources.native,
            "files": copied,
        }
        with open(os.path.join(made, FILE), "xb") as f:
            f.write(records.seal(record) + b"\n")
        work.dirty = True
        work.sync()
        try:
            rename_noreplace(made, data.pin(pin.pin))
        except FileExistsError:
            _replace_unfinished(data, pin, made)
        fsync_dir(data.pins)


def _replace_unfinished(data: DataDir, pin: Pin, temporary: str) -> None:
    """Somebody else stored the same pin meanwhile, or there is one without its pin.json, which is of no use."""
    from podium.linux.tree import remove_tree

    if not os.path.exists(os.path.join(data.pin(pin.pin), FILE)):
        remove_tree(data.pins, pin.pin)
        os.rename(temporary, data.pin(pin.pin))


def _python() -> tuple[int, ...]:
    import sys

    return sys.version_info[:3]


def _copy(source: str, target: str) -> str:
    """Copy a file; returns the sha256 of what was copied."""
    import hashlib

    os.makedirs(os.path.dirname(target), mode=0o755, exist_ok=True)
    with open(source, "rb") as f:
        content = f.read()
    with open(target, "xb") as f:
        f.write(content)
        os.fchmod(f.fileno(), 0o444)
    return hashlib.sha256(content).hexdigest()


def _cache_path(data: DataDir, plugin: Plugin) -> str:
    return data.at("cache", f"pin-{plugin.name}.json")


def _read_cache(data: DataDir, plugin: Plugin) -> Pin | None:
    try:
        cached = records.read(_cache_path(data, plugin))
        if cached["plugin"] != list(plugin):
            return None
        roots = tuple(Root(*root) for root in cached["roots"])
        moved = any(locate(root.name.removesuffix(".py")) != root.path for root in roots)
        if moved or cached["stamp"] != stamp(roots):
            return None
        return Pin(*cached["pin"])
    except (OSError, Corrupt, KeyError, TypeError, ValueError):
        return None


def _write_cache(data: DataDir, plugin: Plugin, sources: Sources, stamped: int, pin: Pin) -> None:
    from podium.linux.files import write_atomic

    if not os.path.isdir(data.cache):
        return  # a read command on a data directory that is not there yet
    record = {"plugin": list(plugin), "roots": sources.roots, "stamp": stamped, "pin": list(pin)}
    write_atomic(_cache_path(data, plugin), records.seal(record), durable=False)
