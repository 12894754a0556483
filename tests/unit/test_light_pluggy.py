"""What pluggy is given for `inspect` answers as the real one does."""

from __future__ import annotations

import functools
import inspect
import os
import subprocess
import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import pluggy
import pytest

import podium_fly.plugin
from podium import hookspecs
from podium.errors import PodiumError
from podium.light_pluggy import Inspect

LIGHT: Any = Inspect("inspect")


class Meta(type):
    def of_meta(cls) -> None: ...


class Sample(metaclass=Meta):
    __slots__ = ("slot",)
    constant = 1

    def method(self) -> None: ...

    @classmethod
    def of_class(cls) -> None: ...

    @staticmethod
    def static() -> None: ...

    @property
    def computed(self) -> int:
        raise AssertionError("it must not be asked")


@functools.wraps(Sample.method)
def wrapped() -> None: ...


MODULE = ModuleType("sample", "its text")
MODULE.__dict__.update(__annotations__={"x": int}, function=wrapped, __class__=3)
OBJECTS = [
    *(Sample, Sample(), Sample.method, Sample().method, Sample.of_class, Sample.static, Sample.computed, Meta.of_meta),
    *(wrapped, functools.partial(wrapped), lambda: None, len, [].append, str.join, object.__init__, int.__add__),
    *(os, MODULE, podium_fly.plugin, hookspecs, hookspecs.Stage1Spec, pluggy.PluginManager, PodiumError, type, object),
    *(None, 1, "text", SimpleNamespace(a=1), (x for x in ())),
]


@pytest.mark.parametrize("question", ["isclass", "ismodule", "isfunction", "ismethod", "isroutine", "unwrap"])
def test_kinds_are_told_as_by_inspect(question: str) -> None:
    for thing in OBJECTS:
        assert getattr(LIGHT, question)(thing) == getattr(inspect, question)(thing), thing


def test_attributes_are_found_as_by_inspect() -> None:
    for thing in OBJECTS:
        for name in {*dir(thing), "slot", "of_meta", "computed", "__dict__", "__class__", "__annotations__", "missing"}:
            assert LIGHT.getattr_static(thing, name, None) is inspect.getattr_static(thing, name, None) or (
                LIGHT.getattr_static(thing, name) == inspect.getattr_static(thing, name)
            ), (thing, name)
    with pytest.raises(AttributeError):
        LIGHT.getattr_static(MODULE, "missing")


def test_everything_else_is_the_real_ones() -> None:
    assert LIGHT.signature is inspect.signature
    with pytest.raises(AttributeError):
        _ = LIGHT.no_such_name


_LOAD = (
    "import sys; from podium.stage1.calling import Loaded; import podium_fly.plugin\n"
    "assert Loaded('fly', podium_fly.plugin).info.name == 'fly'\n"
)


def _run(code: str) -> None:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_plugin_is_loaded_without_them_and_others_get_the_real_ones() -> None:
    _run(
        f"{_LOAD}"
        "assert not {'inspect', 'ast', 'tokenize', 'typing', 're', 'enum'} & sys.modules.keys()\n"
        "import inspect; assert inspect.getsource(podium_fly.plugin)\n"
        "from typing import NamedTuple; import collections.abc, enum\n"
        "assert collections.abc.Sequence and enum.IntFlag and NamedTuple('T', [('a', int)])(3).a == 3\n"
    )


def test_collections_abc_can_be_imported_however_python_has_it() -> None:
    """From Python 3.13 on it has no file: `collections`, which pluggy may bring, puts it in its place once."""
    for first in ("", "import collections\n"):
        _run(f"{first}{_LOAD}from collections.abc import Mapping; import collections.abc, selectors\n")
        _run(f"{first}{_LOAD}import collections.abc; assert collections.abc.Mapping\n")


@pytest.mark.parametrize("name", ["overload", "TypedDict", "Generic", "cast"])
def test_another_pluggy_may_ask_for_more_than_there_is(name: str) -> None:
    _run(f"from podium import light_typing; del light_typing.{name}\n{_LOAD}assert 'typing' in sys.modules\n")


def test_what_pluggy_does_with_the_others_works() -> None:
    _run(
        f"{_LOAD}"
        "from podium.light_pluggy import pluggy; from podium.hookspecs import PROJECT, Stage1Spec\n"
        "manager, said = pluggy.PluginManager(PROJECT), []\n"
        "manager.add_hookspecs(Stage1Spec); manager.register(podium_fly.plugin)\n"
        "manager.trace.root.setwriter(said.append); manager.enable_tracing()\n"
        "assert manager.hook.stage1_info().name == 'fly' and any('stage1_info' in line for line in said)\n"
        "class Plugin:\n"
        "    @pluggy.HookimplMarker(PROJECT)(wrapper=True)\n"
        "    def stage1_info(self):\n"
        "        return (yield).replace(version='9')\n"
        "manager.register(Plugin()); assert manager.hook.stage1_info().version == '9'\n"
        "assert pluggy.Result[int] is not None and pluggy.Result.from_call(int).get_result() == 0\n"
    )
