"""Start-up is a budget: what must not be imported on the way to the commonest commands."""

from __future__ import annotations

import subprocess
import sys

import pytest

from support.command import Podium

FORBIDDEN = frozenset(
    {
        "dataclasses",
        "importlib.metadata",
        "logging",
        "pathlib",
        "pluggy",
        "psutil",
        "pyroute2",
        "sqlite3",
        "subprocess",
        "tempfile",
    }
)


def _imported(args: list[str], env: dict[str, str]) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-X", "importtime", *args],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        env=env,
        check=False,
    )
    assert done.returncode == 0, "\n".join(
        line for line in done.stderr.splitlines() if not line.startswith("import time:")
    )
    lines = (line for line in done.stderr.splitlines() if line.startswith("import time:"))
    return {line.rpartition("|")[2].strip() for line in lines}


@pytest.mark.parametrize("args", [["-c", "import podium.cli.main"], ["-m", "podium", "list"]], ids=["import", "list"])
def test_start_up_imports_nothing_heavy(podium: Podium, args: list[str]) -> None:
    env = {**podium.environment(), "PODIUM_DIR": podium.dir}
    bare = _imported(["-c", "pass"], env)  # what the interpreter and the venv's .pth files import
    imported = _imported(args, env) - bare
    assert imported & FORBIDDEN == set()


def test_import_budget_check_sees_an_import(podium: Podium) -> None:
    env = podium.environment()
    assert "logging" in _imported(["-c", "import logging"], env) - _imported(["-c", "pass"], env)


def test_events_cost_list_nothing_and_run_no_scan(podium: Podium, busybox_rootfs: str) -> None:
    env = {**podium.environment(), "PODIUM_DIR": podium.dir}
    podium("image", "import", busybox_rootfs, "--name", "box", "--exec", "/bin/true")
    options = ["--config", podium.config, "run", "--rm", "--stage1", "fly", "--net", "host", "box"]
    podium(*options[2:])  # which makes the pin, and finds out that there is no event plugin
    ran = _imported(["-m", "podium", *options], env)
    assert not ran & {"importlib.metadata", "podium.events.deliver", "podium.events.toml_hooks"}
    assert "podium.events.emitter" in ran
    assert not {name for name in _imported(["-m", "podium", "list"], env) if name.startswith("podium.events")}
