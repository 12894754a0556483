"""How long ago a pod ended, by all clocks that may be wrong."""

from __future__ import annotations

import os

import pytest

from podium.gc import grace
from podium.gc.grace import Moment
from podium.pods.status import Runtime

NOW = Moment(wall=1_000_000.0, boottime=5000.0, boot="this")


@pytest.mark.parametrize(
    ("then", "age"),
    [
        (Moment(999_000.0, 4900.0, "this"), 100.0),
        (Moment(2_000_000.0, 4900.0, "this"), 100.0),  # the clock was ahead
        (Moment(0.0, 4900.0, "this"), 100.0),  # it was behind
        (Moment(None, 4900.0, "this"), 100.0),
        (Moment(999_000.0, 6000.0, "this"), None),  # from the future of a clock that can't be set
        (Moment(900_000.0, 10.0, "that"), 100_000.0),
        (Moment(999_999.0, 10.0, "that"), 5000.0),  # it can't be younger than this boot
        (Moment(2_000_000.0, 10.0, "that"), 5000.0),
        (Moment(900_000.0, None, None), 100_000.0),
        (Moment(2_000_000.0, None, None), None),
        (Moment(None, None, None), None),
    ],
)
def test_elapsed(then: Moment, age: float | None) -> None:
    assert grace.elapsed(then, NOW) == age


@pytest.mark.parametrize("finished", [None, "yesterday", 7])
def test_ended_takes_nonsense_for_unknown(finished: object) -> None:
    run = Runtime(finished=finished, finished_boottime="x", boot="this")  # type: ignore[arg-type]
    assert grace.ended(run).wall is None and grace.ended(run).boottime is None


def test_age_counts_from_the_first_look_when_nothing_else_is_known(tmp_path: os.PathLike[str]) -> None:
    folder = os.fspath(tmp_path)
    unknown = Moment(None, None, None)
    assert grace.age(folder, unknown, NOW, stamp=False) == 0 and os.listdir(folder) == []
    assert grace.age(folder, unknown, NOW) == 0 and os.listdir(folder) == [grace.MARKED]
    assert grace.age(folder, unknown, NOW._replace(boottime=5100.0, wall=0.0)) == 100
    assert grace.age(folder, unknown, Moment(1_000_200.0, 50.0, "next")) == 200
    with open(os.path.join(folder, grace.MARKED), "w", encoding="ascii") as f:
        f.write("damaged")
    assert grace.age(folder, unknown, NOW._replace(boottime=5100.0)) == 0  # counts anew
    assert grace.age(folder, unknown, NOW._replace(boottime=5150.0)) == 50
