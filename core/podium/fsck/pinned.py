"""Pins: every file by its digest, and those that pods name."""

from __future__ import annotations

import os
from functools import partial

from podium.errors import Corrupt, PluginRefused
from podium.fsck.lost import Lost, is_temporary, names
from podium.fsck.podfolders import Pods
from podium.fsck.report import READ_AGAIN, Report
from podium.paths import DataDir
from podium.records import Unreadable
from podium.stage1 import pins, registry

_ADVICE = (
    "install the version that the pod was prepared with and run 'podium fsck --repair'; "
    "without it the pod can't be run, and gc collects it by its ledger"
)


def check_pins(data: DataDir, report: Report, lost: Lost, pods: Pods) -> None:
    """Check those that are stored, and those that should be."""
    for name in names(data.pins):
        path = data.pin(name)
        if not name.startswith("sha256-"):
            kind = "temporary" if is_temporary(name) else "pin-odd"
            report.leftover(kind, name, f"{path} is no pin", partial(lost.move, path))
            continue
        report.count("pins")
        fault, made, readable = None, True, True
        try:
            pins.verify(data, name)
        except FileNotFoundError:
            fault, made = f"the pin {name} was never finished", False
        except (Unreadable, OSError) as e:
            fault, readable = f"the pin {name} can't be read: {e}", False
        except (Corrupt, KeyError, TypeError) as e:
            fault = e.message if isinstance(e, Corrupt) else f"the pin {name} can't be read: {e}"
        if fault is None:
            continue
        if not readable:
            report.add("pin-damaged", name, fault, READ_AGAIN)
        elif name in pods.pins:
            _renew(data, report, lost, pods, name, "pin-damaged", fault)
        elif made:
            report.add("pin-damaged", name, fault, "no pod needs it", fix=partial(lost.move, path))
        else:
            report.leftover("pin-half-made", name, fault, partial(lost.move, path))
    for name in sorted(pods.pins.keys() - set(names(data.pins))):
        _renew(data, report, lost, pods, name, "pin-missing", f"the pin {name} is missing")


def _renew(data: DataDir, report: Report, lost: Lost, pods: Pods, name: str, kind: str, fault: str) -> None:
    plugin_name, users = pods.pins[name]

    def store() -> str:
        plugin = registry.installed(plugin_name)
        now = pins.current(data, plugin)
        if now.pin != name:
            raise PluginRefused(
                f"what is installed as stage1 plugin {plugin_name!r} is not the code of pin {name}", subject=plugin_name
            )
        moved = lost.move(data.pin(name)) if os.path.lexists(data.pin(name)) else ""
        pins.ensure(data, plugin, now)
        return "stored again from what is installed" + (f", the old one {moved}" if moved else "")

    report.add(kind, name, f"{fault}; needed by pod {', '.join(users[:5])}", _ADVICE, fix=store)
