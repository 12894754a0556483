"""One call of one event plugin, in a process of its own: `python -m podium.events.plugin ENTRY`, the event on stdin."""

from __future__ import annotations

import json
import sys


def main(entry: str) -> None:
    """Call the plugin's implementation of the event's hook, if it has one."""
    from importlib import import_module

    import pluggy

    from podium.hookspecs import PROJECT, EventSpec

    module, _, attribute = entry.partition(":")
    plugin: object = import_module(module)
    for part in attribute.split(".") if attribute else ():
        plugin = getattr(plugin, part)
    manager = pluggy.PluginManager(PROJECT)
    manager.add_hookspecs(EventSpec)
    manager.register(plugin)
    event = json.load(sys.stdin)
    name = "podium_" + event["kind"].replace("-", "_")
    getattr(manager.hook, name)(event=event)


if __name__ == "__main__":
    main(sys.argv[1])
