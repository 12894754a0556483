"""A plugin that breaks one rule fails the check of that rule, and no other. PODIUM_TEST_WHOLE_SUITE=1 runs all checks
on each of those that are chosen (on all of them, 25 minutes of one processor), else it is the check itself and one that
touches most hooks.
"""

from __future__ import annotations

import os
import subprocess
import sys
import xml.etree.ElementTree as ET

import pytest

from podium.testing import Stage1Suite, cleanup, networks
from podium.testing.command import Podium
from podium.testing.snapshot import Scope
from support.broken import BROKEN, install

TESTS = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
WHOLE = os.environ.get("PODIUM_TEST_WHOLE_SUITE") == "1"
# Of other checks, one that touches most hooks.
OTHERS = ("test_streams_are_the_caller_s",)
# Packet filters: what breaks them needs a table of the host's.
UNBROKEN = {"test_nothing_is_left[rule]"}
_BASE = """
import os
import sys
import pytest
from podium.testing import Stage1Suite
from podium.testing.command import INSTALLED
from podium.testing.pods import Pods

sys.path.append({tests!r})
from support.forked import ForkedPodium


class Shared(Stage1Suite):
    patience = 0.5
    limit = 2.0

    @pytest.fixture(scope="class")
    @classmethod
    def workspace(cls):
        return {workspace!r}

    @pytest.fixture(scope="class")
    @classmethod
    def podium(cls, workspace, suite_scope):
        return ForkedPodium({data!r}, {config!r}, suite_scope, INSTALLED, cls.environment)

    @pytest.fixture(scope="class")
    @classmethod
    def host(cls, podium, claims, options, suite_scope, workspace):
        return Pods(podium, cls.plugin, options, suite_scope, workspace, os.path.basename(workspace))

"""
_SOURCE = """
class Test{number}(Shared):
    plugin = {plugin!r}
    environment = {{"PYTHONPATH": {site!r}}}
"""
_CONFIG = """
[cgroup]
parent = "{parent}"

[stage1]
prepare-timeout = 2.0
gc-timeout = 5.0

"""


@pytest.fixture(scope="module")
def failures(request: pytest.FixtureRequest, session_dir: str, busybox_rootfs: str) -> dict[str, dict[str, str]]:
    """Variant → check → `passed`, `failed` or `skipped`, of one run of pytest on all that are asked for, on one data
    directory.
    """
    folder = os.path.join(session_dir, f"podium-broken-{os.getpid()}")
    os.mkdir(folder)
    data, config = os.path.join(folder, "data"), os.path.join(folder, "config.toml")
    with open(config, "w", encoding="utf-8") as f:
        f.write(_CONFIG.format(parent=os.path.basename(folder)) + networks.settings(folder))
    Podium(data, config, Scope(()))("image", "import", busybox_rootfs, "--name", "box", "--exec", "/bin/sh")
    source, chosen = _BASE.format(workspace=folder, data=data, config=config, tests=TESTS), []
    path, report = os.path.join(folder, "test_broken.py"), os.path.join(folder, "report.xml")
    ours = (item for item in request.session.items if item.path == request.path and hasattr(item, "callspec"))
    asked = {item.callspec.params["variant"] for item in ours}
    for number, (variant, broken) in enumerate(BROKEN.items()):
        if variant not in asked:
            continue
        site = os.path.join(folder, variant)
        source += _SOURCE.format(number=number, plugin=install(site, variant), site=site)
        checks = dict.fromkeys((broken.check, *OTHERS))
        chosen += [f"{path}::Test{number}" + ("" if WHOLE else f"::{check}") for check in checks]
    with open(path, "w", encoding="utf-8") as f:
        f.write(source)
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-c",
        os.devnull,
        "--rootdir",
        folder,
        "-p",
        "no:cacheprovider",
    ]
    done = subprocess.run(
        [*command, f"--junit-xml={report}", *dict.fromkeys(chosen)],
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    cleanup.remove_cgroups(os.path.basename(folder))
    networks.remove_bridge(folder)
    assert done.returncode == 1, done.stdout
    found: dict[str, dict[str, str]] = {variant: {} for variant in BROKEN}
    for case in ET.parse(report).iter("testcase"):
        variant = [*BROKEN][int(case.get("classname", "").rpartition(".Test")[2])]
        kinds = {element.tag for element in case}
        result = "failed" if kinds & {"failure", "error"} else "skipped" if "skipped" in kinds else "passed"
        text = "".join(element.get("message") or "" for element in case)
        found[variant][case.get("name", "")] = f"{result} {text}".strip()
    return found


@pytest.mark.parametrize("variant", BROKEN)
def test_it_fails_its_check_and_no_other(failures: dict[str, dict[str, str]], variant: str) -> None:
    results = failures[variant]
    failed = {name: result for name, result in results.items() if result.startswith("failed")}
    assert failed.keys() == {BROKEN[variant].check}, results


def test_every_check_has_a_plugin_that_fails_it() -> None:
    checks = {name for name in dir(Stage1Suite) if name.startswith("test_")}
    broken = {broken.check for broken in BROKEN.values()}
    assert checks == {check.partition("[")[0] for check in broken}
    kinds = {
        f"{name}[{value}]"
        for name in checks
        for mark in getattr(getattr(Stage1Suite, name), "pytestmark", ())
        for value in mark.args[1]
    }
    assert {check for check in broken if "[" in check} == kinds - UNBROKEN
