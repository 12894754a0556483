"""The linters are tests: warnings are errors."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from typing import Any

import pytest

from support.distributions import REPOSITORY

BIN = os.path.dirname(sys.executable)


@pytest.mark.parametrize(
    "command",
    [
        ("ruff", "check", "."),
        ("ruff", "format", "--check", "."),
        ("mypy",),
        ("lint-imports", "--no-cache"),
    ],
    ids=lambda command: " ".join(command[:2]),
)
def test_linter(command: tuple[str, ...]) -> None:
    done = subprocess.run(
        [os.path.join(BIN, command[0]), *command[1:]],
        cwd=REPOSITORY,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout


# What a plugin may import of core; everything else must be forbidden by name in pyproject.toml.
PUBLIC = frozenset({"hookspecs", "types", "errors", "sandbox", "linux", "net", "testing"})


def _contracts() -> dict[str, Any]:
    with open(os.path.join(REPOSITORY, "pyproject.toml"), "rb") as f:
        contracts: dict[str, Any] = tomllib.load(f)["tool"]["importlinter"]
    return contracts


def test_every_part_of_core_is_public_or_forbidden_to_plugins() -> None:
    core = os.path.join(REPOSITORY, "core", "podium")
    parts = {n.removesuffix(".py") for n in os.listdir(core) if n.endswith(".py") and not n.startswith("__")}
    parts |= {n for n in os.listdir(core) if os.path.exists(f"{core}/{n}/__init__.py")}
    contract = next(c for c in _contracts()["contracts"] if c.get("allow_indirect_imports"))
    assert {f"podium.{part}" for part in parts - PUBLIC} == set(contract["forbidden_modules"])


def test_every_plugin_is_under_the_import_contracts() -> None:
    contracts = _contracts()
    plugins = os.path.join(REPOSITORY, "plugins")
    packages = {f"podium_{p}" for p in os.listdir(plugins) if os.path.exists(f"{plugins}/{p}/podium_{p}/__init__.py")}
    assert packages <= set(contracts["root_packages"])
    for contract in contracts["contracts"]:
        if contract["type"] == "forbidden":
            assert packages <= {*contract["source_modules"], *contract["forbidden_modules"]}, contract["name"]
