"""Real loop devices."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from podium.errors import InUse
from podium.linux import loop


@pytest.fixture
def image(test_dir: str) -> Iterator[str]:
    path = os.path.join(test_dir, "an image")
    with open(path, "wb") as f:
        f.write(b"podium".ljust(1 << 20, b"\0"))
    yield path
    for found in loop.attached(path):
        loop.detach(found.device, _id(path))


def _id(path: str) -> tuple[int, int]:
    info = os.stat(path)
    return info.st_dev, info.st_ino


def test_a_file_is_attached_read_and_detached(image: str) -> None:
    device, fd = loop.attach(image, read_only=True, autoclear=False)
    assert os.pread(fd, 6, 0) == b"podium"
    with pytest.raises(OSError, match="Bad file"):
        os.write(fd, b"x")
    os.close(fd)
    assert loop.attached(os.path.dirname(image)) == [loop.LoopDevice(device, image)]
    assert loop.detach(device, _id(image))
    assert loop.attached(image) == []
    assert not loop.detach(device, _id(image))
    assert not loop.detach("/dev/loop-that-is-not-there", _id(image))


def test_a_device_clears_itself(image: str) -> None:
    device, fd = loop.attach(image, read_only=False)
    os.pwrite(fd, b"PODIUM", 0)
    assert [found.device for found in loop.attached(image)] == [device]
    os.fsync(fd)
    os.close(fd)
    assert loop.attached(image) == []
    with open(image, "rb") as f:
        assert f.read(6) == b"PODIUM"


def test_the_device_of_another_file_is_left_alone(image: str, test_dir: str) -> None:
    other = os.path.join(test_dir, "other")
    open(other, "x").close()
    device, fd = loop.attach(image, read_only=True)
    with pytest.raises(InUse, match="another file"):
        loop.detach(device, _id(other))
    assert [found.device for found in loop.attached(image)] == [device]
    os.close(fd)
