"""docs/hooks.md and podium.hookspecs name the same event hooks, with the same arguments."""

from __future__ import annotations

import inspect
import os
import re

from podium.events.record import KINDS
from podium.hookspecs import EventSpec

DOC = os.path.join(os.path.dirname(__file__), "..", "..", "docs", "hooks.md")


def test_every_event_hook_is_documented_with_its_signature() -> None:
    specs = {
        name: f"{name}({', '.join(inspect.signature(hook).parameters)})"
        for name, hook in vars(EventSpec).items()
        if name.startswith("podium_")
    }
    assert sorted(specs) == sorted("podium_" + kind.replace("-", "_") for kind in KINDS)
    with open(DOC, encoding="utf-8") as f:
        rows = re.findall(r"^\| `([a-z-]+)` \| [^|]+ \| `(podium_[^`]+)` \|$", f.read(), re.M)
    assert rows == [(kind, specs["podium_" + kind.replace("-", "_")]) for kind in KINDS]
