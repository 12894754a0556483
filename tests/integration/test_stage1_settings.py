"""What the configuration has for a stage1 plugin reaches its check, its prepare and its run alike."""

from __future__ import annotations

import json
import os

import pytest

from support import altered
from support.command import Podium

_SHOWS = {
    "def stage1_check() -> Sequence[Finding]:": "def stage1_check(settings) -> Sequence[Finding]:",
    "    return common_findings()\n": (
        '    there = os.path.exists(settings.get("needs", "/"))\n'
        '    hint = "change plugins.shows.needs"\n'
        '    return [Finding(name="needed", ok=there, message=repr(dict(settings)), hint=hint)]\n'
    ),
    "    volumes.check_sources(pod)\n": '    volumes.check_sources(pod)\n    print("prepare", dict(pod.settings))\n',
    "    return supervisor.": '    print("run", dict(pod.settings), flush=True)\n    return supervisor.',
}


@pytest.fixture
def shows(podium: Podium, test_dir: str, busybox_rootfs: str) -> Podium:
    """podium with a plugin of somebody else's that tells what it is given."""
    site = os.path.join(test_dir, "site")
    altered.install(site, "shows", _SHOWS)
    using = podium.using(podium.binary, PYTHONPATH=site)
    using("image", "import", busybox_rootfs, "--name", "box", "--exec", "/bin/sh")
    return using


def _configured(podium: Podium, test_dir: str, more: str) -> Podium:
    path = os.path.join(test_dir, "more.toml")
    with open(podium.config, encoding="utf-8") as old, open(path, "w", encoding="utf-8") as new:
        new.write(f"{old.read()}\n{more}\n")
    return podium.using(podium.binary, path)


def test_check_prepare_and_run_see_the_same(shows: Podium, test_dir: str) -> None:
    assert shows.json("stage1", "check", "shows")["plugins"][0]["findings"][0]["message"] == "{}"
    using = _configured(shows, test_dir, '[plugins.shows]\nneeds = "/etc"\ndeep = {a = [1, 2]}\n[plugins.other]\nx = 1')
    given = {"needs": "/etc", "deep": {"a": [1, 2]}}
    assert using.json("config")["config"]["plugins"] == {"shows": given, "other": {"x": 1}}
    assert 'needs = "/etc"' in using.out("config")
    checked = using.json("stage1", "check", "shows")["plugins"][0]["findings"]
    (called,) = using.json("stage1", "call", "shows", "check")["calls"]
    assert checked == called["result"] and checked[0]["message"] == repr(given)
    uuid = using.out("prepare", "--stage1", "shows", "--net", "host", "box", "--", "-c", "exit 3")
    using("stage1", "call", "shows", "prepare", uuid)
    using("run-prepared", uuid, check=3)
    with open(os.path.join(using.json("inspect", uuid)["path"], "plugin.log"), encoding="utf-8") as f:
        assert f.read().splitlines() == [f"{hook} {given}" for hook in ("prepare", "prepare", "run")]
    lacking = _configured(shows, test_dir, '[plugins.shows]\nneeds = "/no/such"')
    assert "change plugins.shows.needs" in lacking("stage1", "check", "shows", check=7).stdout


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        ("[plugins.kvm]\nkernel = '/k'", "the settings of kvm are in [kvm]"),
        ("[plugins]\nshows = 1", "plugins.shows must be a table"),
        ("[plugins.shows]\nday = {on = 2026-01-31}", "write dates and times as text"),
        ("[plugins.shows]\nmuch = [inf]", "plugins.shows.much has a value"),
    ],
)
def test_what_no_plugin_can_be_given_is_refused(podium: Podium, test_dir: str, lines: str, told: str) -> None:
    assert told in _configured(podium, test_dir, lines)("config", check=2).stderr


def test_check_of_kvm_holds_the_configuration_against_the_host(podium: Podium, test_dir: str) -> None:
    def found(lines: str, code: int | None) -> dict[str, tuple[bool, bool, str]]:
        using = _configured(podium, test_dir, f"[kvm]\n{lines}")
        (checked,) = json.loads(using("stage1", "check", "kvm", "--format", "json", check=code).stdout)["plugins"]
        return {f["name"]: (f["ok"], f["required"], f["message"]) for f in checked["findings"]}

    ok, _, message = found(f'kernel = "{test_dir}/vmlinuz"\naccel = "tcg"', 7)["guest kernel"]
    assert not ok and f"{test_dir}/vmlinuz can't be read" in message
    assert found('accel = "tcg"', 0)["kvm"][0]
    assert found('accel = "warp"', 7)["kvm"] == (False, True, "no accelerator is called 'warp'")
    usable = found('accel = "auto"', 0)["kvm"]
    assert found('accel = "kvm"', None)["kvm"] == (usable[0], True, usable[2]) and not usable[1]
