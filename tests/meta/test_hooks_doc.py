"""docs/hooks.md and podium.hookspecs name the same event hooks, with the same arguments."""

from __future__ import annotations

import inspect
import os
import re

from podium.events.record import KINDS
from podium.hookspecs import EventSpec, Stage1Spec

DOC = os.path.join(os.path.dirname(__file__), "..", "..", "docs", "hooks.md")


def _signatures(spec: type, prefix: str) -> dict[str, str]:
    return {
        name: f"{name}({', '.join([*inspect.signature(hook).parameters][1:])})"
        for name, hook in vars(spec).items()
        if name.startswith(prefix)
    }


def test_every_event_hook_is_documented_with_its_signature() -> None:
    specs = _signatures(EventSpec, "podium_")
    assert sorted(specs) == sorted("podium_" + kind.replace("-", "_") for kind in KINDS)
    with open(DOC, encoding="utf-8") as f:
        rows = re.findall(r"^\| `([a-z-]+)` \| [^|]+ \| `(podium_[^`]+)` \|$", f.read(), re.M)
    assert rows == [(kind, specs["podium_" + kind.replace("-", "_")]) for kind in KINDS]


def test_every_stage1_hook_is_documented_with_its_signature() -> None:
    with open(DOC, encoding="utf-8") as f:
        rows = re.findall(r"^\| [^|]+ \| `(stage1_[^`]+)` \|$", f.read(), re.M)
    assert rows == [*_signatures(Stage1Spec, "stage1_").values()]
