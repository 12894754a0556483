"""The plugin that `podium stage1 new` writes, with some of its code changed, as an installed distribution."""

from __future__ import annotations

import os
from collections.abc import Mapping

from podium.testing.scaffold import filled
from podium.testing.template import PLUGIN


def install(folder: str, name: str, changes: Mapping[str, str]) -> None:
    """Write the plugin `name` into `folder`, to be on PYTHONPATH; what is changed has to be there once."""
    package = "podium_" + name.replace("-", "_")
    info = os.path.join(folder, f"{package}-1.0.dist-info")
    os.makedirs(os.path.join(folder, package))
    os.mkdir(info)
    code = filled(PLUGIN, name)
    for old, new in changes.items():
        assert code.count(old) == 1, f"{name}: {old!r} is {code.count(old)} times in the plugin"
        code = code.replace(old, new)
    for path, content in {
        os.path.join(folder, package, "__init__.py"): code,
        os.path.join(info, "METADATA"): f"Metadata-Version: 2.1\nName: podium-{name}\nVersion: 1.0\n",
        os.path.join(info, "entry_points.txt"): f"[podium.stage1]\n{name} = {package}\n",
    }.items():
        with open(path, "w", encoding="utf-8") as f:
            f.write(content)
