"""What others write code against changes only with the interface version. See docs/interface-versions.md."""

from __future__ import annotations

import os

import pytest

from podium.types import INTERFACE
from support import surface
from support.distributions import REPOSITORY


def test_nothing_public_was_broken() -> None:
    broken = surface.incompatible(surface.frozen(), surface.current())
    assert not broken, (
        f"this breaks what was written for interface version {INTERFACE}: keep it, or raise podium.types.INTERFACE, "
        "tell it in docs/interface-versions.md and freeze the new one with `python -m support.surface`\n"
        + "\n".join(broken)
    )


@pytest.mark.parametrize(
    ("module", "old", "new"),
    [
        ("podium.types", "    timeout: float = 10.0\n", ""),
        ("podium.types", "    timeout: float = 10.0\n", "    timeout: float = 10.0\n    patience: float\n"),
        ("podium.types", "def intend(self, kind: str,", "def intend(self, sort: str,"),
        ("podium.hookspecs", "def stage1_gc(self, pod: Pod, ledger: Ledger)", "def stage1_gc(self, pod: Pod)"),
        ("podium.hookspecs", "def stage1_check(self,", "def stage1_look(self,"),
        ("podium.errors", "class HostLacks(PodiumError)", "class HostNeeds(PodiumError)"),
        ("podium.runtime", "def resolve(self, ref: str)", "def resolve(self, pod: str)"),
        ("podium.testing.suite", "    limit: ClassVar[float] = 20.0\n", ""),
    ],
)
def test_the_check_sees_a_break(module: str, old: str, new: str) -> None:
    assert surface.incompatible(surface.frozen(), surface.current({module: _changed(module, old, new)}))


def test_a_new_argument_of_a_hook_breaks_nothing() -> None:
    changed = _changed("podium.hookspecs", "def stage1_info(self)", "def stage1_info(self, more: str)")
    assert not surface.incompatible(surface.frozen(), surface.current({"podium.hookspecs": changed}))


def _changed(module: str, old: str, new: str) -> str:
    with open(os.path.join(REPOSITORY, "core", *module.split(".")) + ".py", encoding="utf-8") as f:
        text = f.read()
    assert text.count(old) == 1, f"{old!r} is {text.count(old)} times in {module}"
    return text.replace(old, new)
