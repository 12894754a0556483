"""Start-up is a budget: what must not be imported on the way to the commonest commands."""

from __future__ import annotations

import _signal
import ast
import glob
import os
import re
import subprocess
import sys
from pathlib import Path

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


# Nor on the way to a running app, in podium or in the worker: where modules stand in for them, see docs/adr/0023.
FORBIDDEN_FOR_RUN = (FORBIDDEN - {"pluggy"}) | {
    *("collections", "contextlib", "enum", "functools", "inspect", "json", "re", "signal", "socket", "typing"),
}


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
    return _told(done.stderr)


def _told(text: str) -> set[str]:
    lines = (line for line in text.splitlines() if line.startswith("import time:"))
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


@pytest.mark.parametrize("stage1", ["fly", "nspawn"])
def test_run_imports_nothing_heavy(podium: Podium, busybox_rootfs: str, stage1: str) -> None:
    podium("image", "import", busybox_rootfs, "--name", "box", "--exec", "/bin/true")
    # Without a configuration file, whose parser has regular expressions.
    options = ["--dir", podium.dir, "run", "--stage1", stage1, "--net", "host", "box"]
    podium(*options[2:])  # which makes the pin
    script = "import sys; from podium.cli.main import main; sys.exit(main())"
    imported = _imported(["-c", script, *options], podium.environment())
    assert "podium.pods.compose" in imported
    assert imported & FORBIDDEN_FOR_RUN == set()
    # The worker, once in a pod: nothing, where it had come as far as that ahead, which is for the next test.
    logged = _told("".join(map(_text, glob.glob(f"{podium.dir}/pods/*/*/plugin.log"))))
    assert logged & FORBIDDEN_FOR_RUN == set()


def _text(path: str) -> str:
    with open(path, encoding="utf-8") as f:
        return f.read()


@pytest.mark.parametrize("stage1", ["fly", "nspawn", "kvm"])
def test_a_worker_imports_nothing_heavy_ahead(podium: Podium, stage1: str) -> None:
    code = (
        "import _thread, sys, time\n"
        "from _socket import socketpair\n"
        "from podium.stage1.protocol import Channel\n"
        "from podium.stage1.worker import serve\n"
        "ours, theirs = socketpair()\n"
        "caller = Channel(ours)\n"
        f"args = {{'name': '{stage1}', 'entry': 'podium_{stage1}.plugin', 'ahead': True}}\n"
        "caller.send({'v': 1, 'id': 1, 'hook': 'load', 'pod': None, 'args': args})\n"
        "_thread.start_new_thread(serve, (Channel(theirs),))\n"
        "assert caller.receive()['result']['name'] == args['name']\n"
        f"while {{'podium.sandbox.supervisor', 'podium_{stage1}.sandbox'}} - sys.modules.keys():\n"
        "    time.sleep(0.01)\n"
        "from podium.sandbox.supervisor import FOR_APPS\n"  # which a run imports next
        "for module in FOR_APPS:\n"
        "    __import__(module)\n"
    )
    imported = _imported(["-c", code], podium.environment())
    assert {"pluggy", "podium.sandbox.supervisor", "podium.sandbox.process"} <= imported
    assert imported & FORBIDDEN_FOR_RUN == set()


_TREE = os.path.dirname(os.path.dirname(os.path.dirname(__file__)))


def _used(tree: ast.Module, name: str) -> set[str]:
    """What is asked of the module `name` when the code runs: annotations are not."""
    annotations = {
        each
        for node in ast.walk(tree)
        for place in ("annotation", "returns")
        if (noted := getattr(node, place, None)) is not None
        for each in ast.walk(noted)
    }
    return {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == name
        if node not in annotations
    }


def test_the_light_signal_module_has_all_that_is_asked_of_it() -> None:
    """Type checkers see `signal`, so they can't tell."""
    users = 0
    for path in (*Path(_TREE, "core").rglob("*.py"), *Path(_TREE, "plugins").rglob("*.py")):
        text = path.read_text(encoding="utf-8")
        if re.search(
            r"^\s*(from podium\.linux\.signals import .*\bsignal\b|import _signal as signal)", text, re.MULTILINE
        ):
            users += 1
            lacking = {name for name in _used(ast.parse(text), "signal") if not hasattr(_signal, name)}
            assert not lacking, f"{path} asks the light signal for {lacking}"
    assert users > 10
