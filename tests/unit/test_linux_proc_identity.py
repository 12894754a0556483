"""A process is pid, start time and boot id."""

from __future__ import annotations

import os

import pytest

from podium.linux import procs


def test_a_process_survives_its_record() -> None:
    me = procs.identify(os.getpid())
    assert me is not None
    assert procs.Process.from_json(me.to_json()) == me


@pytest.mark.parametrize("data", [{}, {"pid": "x", "start_time": 1, "boot_id": ""}, {"pid": 1, "start_time": None}])
def test_a_damaged_record_raises_what_its_reader_expects(data: dict[str, object]) -> None:
    with pytest.raises((KeyError, TypeError, ValueError)):
        procs.Process.from_json(data)


def test_no_pid_is_identified_for_zero_or_below() -> None:
    assert procs.identify(0) is None
    assert procs.identify(-1) is None
    assert not procs.alive(procs.Process(-1, 0, procs.boot_id()))
