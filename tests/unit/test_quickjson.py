"""quickjson reads and writes what `json` does."""

from __future__ import annotations

import json
from typing import Any

import pytest

from podium import quickjson

VALUES: list[Any] = [
    {},
    [],
    "",
    'a"b\\c\n\x00é\U0001f600\ud800',
    0,
    -1,
    10**40,
    1.5,
    -0.0,
    1e300,
    True,
    False,
    None,
    float("inf"),
    {"a": [1, {"b": None}], "": "x", "é": (1, 2)},
]


@pytest.mark.parametrize("value", VALUES, ids=range(len(VALUES)))
@pytest.mark.parametrize("separators", [(", ", ": "), (",", ":")], ids=["wide", "narrow"])
def test_writes_as_json_does(value: Any, separators: tuple[str, str]) -> None:
    text = json.dumps(value, separators=separators)
    assert quickjson.dumps(value, separators) == text
    assert quickjson.loads(text) == json.loads(text)
    assert quickjson.loads(f" \n{text}\t\r\n".encode()) == json.loads(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "{",
        "[1,]",
        "nul",
        "{} x",
        "1 2",
        "{'a':1}",
        '{"a"}',
        '"\n"',
        "\ufeff{}",
        "\x0b{}",
        "01",
        "[1}",
        b"\xff",
    ],
)
def test_refuses_what_json_refuses(text: str | bytes) -> None:
    with pytest.raises(ValueError):
        json.loads(text)
    with pytest.raises(ValueError):
        quickjson.loads(text)


def test_nesting_and_cycles_are_errors() -> None:
    with pytest.raises(RecursionError):
        quickjson.loads("[" * 200_000)
    cycle: list[Any] = []
    cycle.append(cycle)
    with pytest.raises(ValueError):
        quickjson.dumps(cycle)
    with pytest.raises(TypeError):
        quickjson.dumps({"a": object()})
