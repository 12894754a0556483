"""Fixtures of integration tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from support.command import Podium
from support.fly import IMAGE, Fly


@pytest.fixture
def fly(podium: Podium, busybox_rootfs: str, test_dir: str) -> Iterator[Fly]:
    """podium with the image `box`; what still runs at the end is ended."""
    podium("image", "import", busybox_rootfs, "--name", IMAGE, "--exec", "/bin/sh")
    made = Fly(podium, test_dir)
    yield made
    made.end_all()
