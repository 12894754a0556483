"""TOML hooks of a test: a folder for them, and what they have written down."""

from __future__ import annotations

import json
import os
from typing import Any

from support.command import Podium


def configure(podium: Podium, test_dir: str) -> str:
    """A folder for hooks, which podium is configured to use."""
    folder = os.path.join(test_dir, "hooks.d")
    os.mkdir(folder)
    with open(podium.config, encoding="utf-8") as f:
        config = f.read()
    podium.config = os.path.join(test_dir, "with-hooks.toml")
    with open(podium.config, "w", encoding="utf-8") as f:
        f.write(f'{config}[hooks]\ndir = "{folder}"\n')
    return folder


def lines(path: str) -> list[dict[str, Any]]:
    """The JSON objects of a file, one a line; none if it is not there."""
    if not os.path.exists(path):
        return []
    with open(path, encoding="utf-8") as f:
        return [json.loads(line) for line in f]
