"""Volumes of each kind that the plugin claims."""

from __future__ import annotations

import os
import tempfile
from typing import ClassVar

import pytest

from podium.testing.pods import Pods


class VolumeChecks:
    """See the package."""

    plugin: ClassVar[str]

    @pytest.mark.parametrize("kind", ["host", "empty", "tmpfs"])
    def test_volume(self, pods: Pods, claims: frozenset[str], kind: str) -> None:
        """An app reads and writes it at its place; a host volume is the host's folder."""
        if f"volume:{kind}" not in claims:
            pytest.skip(f"the plugin does not claim `volume:{kind}`")
        source = tempfile.mkdtemp(prefix="source-", dir=pods.folder)
        with open(os.path.join(source, "file"), "w", encoding="ascii") as f:
            f.write("from the host\n")
        more = f",source={source}" if kind == "host" else ",mode=0700"
        done = pods.run(
            "cat /v/file 2>/dev/null; echo x > /v/new && cat /v/new; stat -c %a /v; grep -c ' /v ' /proc/mounts",
            *("--mount", "volume=v,target=/v"),
            pod=("--volume", f"v,kind={kind}{more}"),
        )
        wrote = os.path.exists(os.path.join(source, "new"))
        if kind == "host":
            assert done.stdout.splitlines()[:2] == ["from the host", "x"] and wrote, done.stdout
        else:
            assert done.stdout.splitlines() == ["x", "700", "1"] and not wrote, done.stdout

    def test_volume_that_is_read_only(self, pods: Pods, claims: frozenset[str]) -> None:
        """Nothing can be written into a read-only volume."""
        if "volume:host" not in claims:
            pytest.skip("the plugin does not claim `volume:host`")
        source = tempfile.mkdtemp(prefix="source-", dir=pods.folder)
        done = pods.run(
            "{ echo x > /v/new; } 2>/dev/null && echo written || echo refused",
            *("--mount", "volume=v,target=/v"),
            pod=("--volume", f"v,kind=host,source={source},readOnly=true"),
        )
        assert done.stdout == "refused\n" and not os.listdir(source)
