"""The cheap classes: named tuples without typing's, and the records that plugins are given."""

from __future__ import annotations

import pytest

from podium.named import NamedTuple
from podium.types import App, Mount


class _Point(NamedTuple):
    """Doc."""

    x: int
    y: int = 2

    @property
    def sum(self) -> int:
        return self.x + self.y


def test_a_named_tuple_is_one() -> None:
    point = _Point(1)
    assert (point, point.sum, point._asdict()) == ((1, 2), 3, {"x": 1, "y": 2})
    assert (_Point._fields, _Point._field_defaults, _Point.__doc__) == (("x", "y"), {"y": 2}, "Doc.")
    assert point._replace(y=5) == _Point(1, 5)
    assert _Point.__module__ == __name__


@pytest.mark.parametrize("made", [0, 20], ids=["the first", "later"])
def test_all_are_made_alike(made: int) -> None:
    class Point(NamedTuple):
        x: int
        y: int
        z: int = 3

    for _ in range(made):
        Point(0, 0)
    assert Point(1, 2) == Point(1, y=2) == Point(y=2, x=1) == Point(1, 2, 3) == (1, 2, 3)
    assert Point(1, z=5, y=2) == Point(*(1, 2), z=5) == (1, 2, 5)
    for values, named in [((1,), {}), ((1, 2, 3, 4), {}), ((1, 2), {"x": 1}), ((1, 2), {"w": 1}), ((), {"z": 1})]:
        with pytest.raises(TypeError, match="argument"):
            Point(*values, **named)


def test_a_record_is_frozen_and_equal_by_value() -> None:
    mount = Mount(volume="v", target="/t")
    assert mount == Mount(volume="v", target="/t", read_only=False) != mount.replace(read_only=True)
    assert len({mount, Mount(volume="v", target="/t")}) == 1
    assert mount.values() == {"volume": "v", "target": "/t", "read_only": False}
    with pytest.raises(AttributeError):
        mount.target = "/other"  # type: ignore[misc]
    with pytest.raises(AttributeError):
        del mount.target


def test_a_record_names_what_is_missing_or_unknown() -> None:
    with pytest.raises(TypeError, match=r"Mount misses target, has no tgt"):
        Mount(volume="v", tgt="/t")  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="has no colour"):
        App(name="a", image="i", image_id="x", rootfs="/", exec=()).replace(colour=1)
