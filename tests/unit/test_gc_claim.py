"""What a ledger entry can prove."""

from __future__ import annotations

import pytest

from podium.gc import reclaim
from podium.gc.knowledge import Known
from podium.gc.marking import cgroup_paths
from podium.gc.report import Dispatched, Failure, GcReport, Kept, Released
from podium.pods.status import Runtime
from podium.types import Resource

UUID = "01234567-89ab-cdef-0123-456789abcdef"
FOLDER = f"/data/pods/garbage/{UUID}"


def claim(kind: str = "path", id: str = "x", **attrs: object) -> reclaim.Claim:
    return reclaim.Claim(Resource(number=1, kind=kind, id=id, attrs=attrs, held=True), UUID, FOLDER, True)


@pytest.mark.parametrize(
    ("path", "inside"),
    [
        ("stage1/x", f"{FOLDER}/stage1/x"),
        (f"/data/pods/run/{UUID}/stage1/x", f"{FOLDER}/stage1/x"),
        (f"/elsewhere/pods/run/{UUID}", FOLDER),
        (f"/run/podium/{UUID}/x", None),
        (f"/data/pods/run/{UUID}/../other", None),
        ("../other", None),
        ("/etc", None),
        (f"/{UUID}/x", None),
    ],
)
def test_inside_is_the_pods_folder_in_any_phase(path: str, inside: str | None) -> None:
    assert claim().inside(path) == (inside if inside != FOLDER else f"{FOLDER}")


def test_recorded_file_needs_two_numbers() -> None:
    assert claim(st_dev=1, st_ino=2).recorded_file() == (1, 2)
    assert claim(st_dev=1).recorded_file() is None and claim(st_dev="a", st_ino=None).recorded_file() is None


def test_every_kind_has_a_reclaimer_and_others_are_refused() -> None:
    from importlib import import_module

    for kind in reclaim.KINDS:
        module = import_module(f"podium.gc.reclaim.{kind}")
        assert callable(module.present) and callable(module.release)
    with pytest.raises(reclaim.NoReclaimer, match="frobnicator"):
        reclaim.present(claim("frobnicator"))


@pytest.mark.parametrize("path", ["", "/", "..", f"../{UUID}", f"podium//{UUID}", "."])
def test_a_cgroup_path_that_is_none_is_refused(path: str) -> None:
    with pytest.raises(reclaim.NotProvable):
        reclaim.present(claim("cgroup", path))


@pytest.mark.parametrize("recorded", ["", f"/a/{UUID}", "a/b", f"../{UUID}", f"../../x/{UUID}", 7])
def test_cgroup_paths_end_in_the_uuid(recorded: object) -> None:
    known = Known(None, None, None, Runtime(cgroup=recorded))  # type: ignore[arg-type]
    paths = cgroup_paths(UUID, known, "parent")
    assert paths[-2:] == [f"parent/{UUID}", f"podium/{UUID}"]
    assert all(path.endswith(f"/{UUID}") and ".." not in path and path[0] != "/" for path in paths)


def test_report_as_json() -> None:
    report = GcReport(
        ["a"], ["b"], [Kept("c", "why")], [Failure("d", "r", "m", 2)], [Released("e", "k", "i", "audit")],
        [Dispatched("f", "fly", "1", "sha256:0", "pin", "gone")],
    )  # fmt: skip
    assert report.to_json() == {
        "schema": "podium.gc/1",
        "marked": ["a"],
        "collected": ["b"],
        "kept": [{"uuid": "c", "reason": "why"}],
        "failed": [{"uuid": "d", "reason": "r", "message": "m", "attempts": 2}],
        "released": [{"uuid": "e", "kind": "k", "id": "i", "by": "audit"}],
        "dispatch": [{"uuid": "f", "stage1": "fly", "version": "1", "digest": "sha256:0", "via": "pin", "why": "gone"}],
    }
