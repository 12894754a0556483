"""Volumes of each kind that the plugin claims."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from typing import ClassVar

import pytest

from podium.testing.effects import Effect, Shown

KINDS = ("host", "empty", "tmpfs")
_SHOW = "cat /v/file 2>/dev/null; echo x > /v/new && cat /v/new; stat -c %a /v; grep -c ' /v ' /proc/mounts"
_TRY = "{ echo x > /v/new; } 2>/dev/null && echo written || echo refused"


def effects(workspace: str) -> dict[str, Effect]:
    """Check → what it looks at."""
    found = {}
    for kind in KINDS:
        more = f",source={_source(workspace, kind)}" if kind == "host" else ",mode=0700"
        found[f"test_volume[{kind}]"] = _effect(kind, _SHOW, f"{kind},kind={kind}{more}")
    read_only = f"fixed,kind=host,source={_source(workspace, 'fixed')},readOnly=true"
    return found | {"test_volume_that_is_read_only": _effect("host", _TRY, read_only)}


def _effect(kind: str, command: str, volume: str) -> Effect:
    mount = ("--mount", f"volume={volume.partition(',')[0]},target=/v")
    return Effect(f"volume:{kind}", command, app=mount, pod=("--volume", volume))


def _source(workspace: str, name: str) -> str:
    """A folder of the host, with a file in it and nothing that a plugin before may have written."""
    folder = os.path.join(workspace, f"source-{name}")
    shutil.rmtree(folder, ignore_errors=True)
    os.makedirs(folder)
    with open(os.path.join(folder, "file"), "w", encoding="ascii") as f:
        f.write("from the host\n")
    return folder


class VolumeChecks:
    """See the package."""

    plugin: ClassVar[str]

    @pytest.mark.parametrize("kind", KINDS)
    def test_volume(self, shown: Mapping[str, Shown], workspace: str, claims: frozenset[str], kind: str) -> None:
        """An app reads and writes it at its place; a host volume is the host's folder."""
        if f"volume:{kind}" not in claims:
            pytest.skip(f"the plugin does not claim `volume:{kind}`")
        lines, failure = shown[f"test_volume[{kind}]"]
        if kind == "host":
            assert lines[:2] == ["from the host", "x"], f"{lines}\n{failure}"
            assert os.path.exists(os.path.join(workspace, "source-host", "new")), "the host's folder has no such file"
        else:
            assert lines == ["x", "700", "1"], f"{lines}\n{failure}"

    def test_volume_that_is_read_only(self, shown: Mapping[str, Shown], workspace: str, claims: frozenset[str]) -> None:
        """Nothing can be written into a read-only volume."""
        if "volume:host" not in claims:
            pytest.skip("the plugin does not claim `volume:host`")
        lines, failure = shown["test_volume_that_is_read_only"]
        assert lines == ["refused"], f"{lines}\n{failure}"
        assert os.listdir(os.path.join(workspace, "source-fixed")) == ["file"]
