"""Fixtures of integration tests."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from podium.format import ensure
from podium.paths import DataDir
from podium.store.store import Store
from support.command import Podium
from support.fly import IMAGE, Fly


@pytest.fixture
def fly(podium: Podium, busybox_rootfs: str, test_dir: str) -> Iterator[Fly]:
    """podium with the image `box`; what still runs at the end is ended."""
    podium("image", "import", busybox_rootfs, "--name", IMAGE, "--exec", "/bin/sh")
    made = Fly(podium, test_dir)
    made.rootfs = busybox_rootfs
    yield made
    made.end_all()


@pytest.fixture(params=["fly", "nspawn"])
def either(fly: Fly, request: pytest.FixtureRequest) -> Fly:
    """`fly`, once with each of these stage1s: what holds for one app holds for both."""
    fly.stage1 = ("--stage1", request.param, "--net", "host" if request.param == "fly" else "none")
    return fly


@pytest.fixture
def box(podium: Podium, busybox_oci: str) -> Podium:
    """podium with the image `box`."""
    podium("image", "import", busybox_oci, "--name", "box")
    return podium


@pytest.fixture
def store(test_dir: str) -> Store:
    data = DataDir(os.path.join(test_dir, "data"))
    ensure(data)
    return Store(data)


@pytest.fixture
def work(test_dir: str) -> str:
    folder = os.path.join(test_dir, "work")
    os.mkdir(folder)
    return folder
