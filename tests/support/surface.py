"""The public surface, as griffe sees it, frozen once for each interface version (`python -m support.surface`)."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import griffe

from podium.types import INTERFACE
from support.distributions import REPOSITORY

FOLDER = os.path.join(REPOSITORY, "tests", "surface")
MODULES = (
    *("podium.hookspecs", "podium.types", "podium.errors", "podium.runtime"),
    *("podium.testing.suite", "podium.testing.pods"),
)
_LEFT_OUT = frozenset({"docstring", "git_info", "source_link", "runtime"})


def current(changed: Mapping[str, str] | None = None) -> dict[str, griffe.Module]:
    """The surface of the sources; `changed`: module → text in place of its file's."""
    found = {}
    for name in MODULES:
        path = os.path.join(REPOSITORY, "core", *name.split(".")) + ".py"
        with open(path, encoding="utf-8") as f:
            text = (changed or {}).get(name) or f.read()
        found[name] = griffe.visit(name, Path(path), text, modules_collection=griffe.ModulesCollection())
    return found


def frozen(interface: int = INTERFACE) -> dict[str, griffe.Module]:
    """The surface of an interface version. Raises FileNotFoundError: it was not frozen yet."""
    with open(os.path.join(FOLDER, f"interface-{interface}.json"), encoding="utf-8") as f:
        found = {name: griffe.Module.from_json(json.dumps(module)) for name, module in json.load(f).items()}
    for module in found.values():
        module._modules_collection = griffe.ModulesCollection()  # what is imported from elsewhere is not found, then
    return found


def incompatible(old: dict[str, griffe.Module], new: dict[str, griffe.Module]) -> list[str]:
    """What of the old surface the new one breaks."""
    lines = []
    for name, module in old.items():
        for breakage in griffe.find_breaking_changes(module, new[name]):
            added = breakage.kind is griffe.BreakageKind.PARAMETER_ADDED_REQUIRED
            if name == "podium.hookspecs" and added:
                continue  # an implementation takes any subset of the arguments
            lines.append(" ".join(breakage.explain(griffe.ExplanationStyle.ONE_LINE).split()))
    return lines + [f"{field}: a new field needs a default" for field in _required(new) - _required(old)]


def _required(surface: dict[str, griffe.Module]) -> set[str]:
    """Fields of the records that plugins are given and return, which have no default."""
    return {
        f"{cls.name}.{field.name}"
        for cls in surface["podium.types"].classes.values()
        if [str(base) for base in cls.bases] == ["Record"]
        for field in cls.attributes.values()
        if field.value is None
    }


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items() if k not in _LEFT_OUT}
    if isinstance(value, list):
        return [_plain(v) for v in value]
    return value.removeprefix(REPOSITORY + "/") if isinstance(value, str) else value


def freeze() -> str:
    """Write the surface down as that of the interface version; returns the file's path."""
    os.makedirs(FOLDER, exist_ok=True)
    path = os.path.join(FOLDER, f"interface-{INTERFACE}.json")
    modules = {name: _plain(json.loads(module.as_json(full=False))) for name, module in current().items()}
    with open(path, "w", encoding="utf-8") as f:
        f.write(json.dumps(modules, separators=(",", ":"), sort_keys=True) + "\n")
    return path


if __name__ == "__main__":
    print(freeze())
