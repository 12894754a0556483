"""How an argument of a hook is retired, on `noop`: podium warns, then refuses, then does not know it any more."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import pytest

from podium.errors import PluginRefused
from podium.hookspecs import HOOKS, RETIRING, Retiring, Stage1Spec, hookimpl, hookspec
from podium.stage1.calling import Loaded
from podium.types import Stage1Info


class Old(Stage1Spec):
    """A specification whose `stage1_check` has the argument `noop`."""

    @hookspec(firstresult=True)
    def stage1_check(self, noop: object) -> Any: ...  # type: ignore[override]


def _plugin(check: Any) -> object:
    hooks: dict[str, Any] = {name: (lambda: True) for name in HOOKS}
    hooks["stage1_info"] = lambda: Stage1Info(name="old", version="1")
    hooks["stage1_check"] = check
    for name, function in hooks.items():
        function.__name__ = name
    plugin = ModuleType("old")
    vars(plugin).update({name: hookimpl(function) for name, function in hooks.items()})
    return plugin


def _retiring(step: str) -> dict[tuple[str, str], Retiring]:
    return {("stage1_check", "noop"): Retiring(step, "0.2", "leave it out")}


def test_first_it_is_warned_of_and_given_as_none() -> None:
    loaded = Loaded("old", _plugin(lambda noop: [noop]), Old, _retiring("warn"))
    (warning,) = loaded.warnings
    assert "stage1_check takes noop" in warning and "since podium 0.2: leave it out" in warning
    assert loaded.call_exactly("check") == [None]


def test_then_it_is_refused() -> None:
    with pytest.raises(PluginRefused, match="takes noop, which is deprecated"):
        Loaded("old", _plugin(lambda noop: [noop]), Old, _retiring("error"))


def test_then_it_is_gone() -> None:
    with pytest.raises(PluginRefused, match="noop"):
        Loaded("old", _plugin(lambda noop: [noop]), Stage1Spec, {})


@pytest.mark.parametrize("step", ["warn", "error"])
def test_who_does_not_take_it_is_not_told(step: str) -> None:
    loaded = Loaded("old", _plugin(lambda: ["fine"]), Old, _retiring(step))
    assert loaded.warnings == [] and loaded.call_exactly("check") == ["fine"]


def test_what_retires_now_is_in_the_specification() -> None:
    for (hook, argument), retiring in RETIRING.items():
        assert argument in getattr(Stage1Spec, hook).__code__.co_varnames
        assert retiring.step in ("warn", "error")
