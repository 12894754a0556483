"""stage1 list, check, pins: what could prepare a pod, what this host has for it, and which code is kept."""

from __future__ import annotations

from podium import records
from podium.actions.context import Context
from podium.errors import Corrupt, PodiumError
from podium.pods.envelope import referenced
from podium.stage1 import pins, registry
from podium.stage1.dispatch import Choice, Dispatcher

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

CHECK_TIMEOUT = 60.0  # seconds


def list_plugins(context: Context) -> list[dict[str, Any]]:
    """Every installed plugin: its info, digest and pin, or the problem that keeps it from being used."""
    result = []
    with Dispatcher(context.data, context.config) as dispatcher:
        for name in registry.names():
            entry: dict[str, Any] = {"name": name, "problem": None}
            try:
                choice, pin = dispatcher.for_new_pod(name)
                plugin = choice.plugin
                assert plugin is not None
                entry |= {"distribution": plugin.distribution, "entry": plugin.entry, **pin._asdict()}
                info = dispatcher.worker(choice).info
                entry |= {k: info[k] for k in ("version", "interface", "state", "serves", "capabilities")}
                entry["warnings"] = info.get("warnings", [])
            except PodiumError as e:
                entry["problem"] = {"reason": e.reason, "message": e.message}
            entry["ignored"] = [f"{p.distribution} {p.version}" for p in registry.contenders(name)]
            result.append(entry)
    return result


def check(context: Context, name: str | None) -> list[dict[str, Any]]:
    """What the host has for a plugin (or all): [{"name", "usable", "findings"}].

    Raises:
        NotFound, PluginRefused: the plugin that was named can't be used.
    """
    result = []
    with Dispatcher(context.data, context.config) as dispatcher:
        for each in [name] if name is not None else registry.names():
            try:
                choice: Choice = dispatcher.for_new_pod(each)[0]
                asked = {"settings": context.config.of_stage1(each)}
                findings = dispatcher.worker(choice).call("check", None, CHECK_TIMEOUT, asked)
            except PodiumError as e:
                if name is not None:
                    raise
                findings = [{"name": "plugin", "ok": False, "required": True, "message": e.message, "hint": e.hint}]
            usable = all(f["ok"] or not f["required"] for f in findings)
            result.append({"name": each, "usable": usable, "findings": findings})
    return result


def list_pins(context: Context, verify: bool) -> list[dict[str, Any]]:
    """The pins that are stored: [{"pin", "plugin", "podium", "files", "in_use", "problem"}]."""
    import os

    used = referenced(context.data).pins
    result = []
    for name in pins.stored(context.data):
        entry: dict[str, Any] = {"pin": name, "in_use": name in used, "problem": None}
        try:
            record = (
                pins.verify(context.data, name)
                if verify
                else records.read(os.path.join(context.data.pin(name), pins.FILE), f"the pin {name}")
            )
            entry |= {k: record[k] for k in ("plugin", "podium", "python", "libraries", "native")}
            entry["files"] = len(record["files"])
        except FileNotFoundError:
            entry["problem"] = {"reason": "corrupt", "message": f"the pin {name} has no {pins.FILE}"}
        except Corrupt as e:
            entry["problem"] = {"reason": e.reason, "message": e.message}
        result.append(entry)
    return result
