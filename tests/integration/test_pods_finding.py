"""Pods are found while they move from phase to phase."""

from __future__ import annotations

import os
import subprocess

import pytest

from podium.errors import NotFound
from podium.paths import PREPARED, RUN
from podium.pods import lifecycle
from support.disk import Disk


def test_a_name_is_found_though_its_pod_moved_on_since_the_look(disk: Disk) -> None:
    folder = disk.pod(PREPARED, name="web", ran=False)
    disk.pod(name="other")
    seen = lifecycle.scan(disk.data)
    (moved,) = (pod for pod in seen if pod.path == folder)
    there = lifecycle.move(disk.data, moved, RUN)
    assert lifecycle.named(disk.data, seen, "web") == [there]
    subprocess.run(["rm", "-r", there.path], check=True)
    assert lifecycle.named(disk.data, seen, "web") == []


def test_a_pod_without_an_envelope_has_no_name(disk: Disk) -> None:
    folder = disk.pod(PREPARED, name="web", ran=False)
    os.unlink(os.path.join(folder, "envelope.json"))
    with pytest.raises(NotFound, match="web"):
        lifecycle.find(disk.data, "web")
