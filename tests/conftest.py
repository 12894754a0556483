"""Fixtures that all tests share.

Integration tests take `podium` (or `host_guard` alone): what they leave on the host fails them. PODIUM_TEST_STRICT=1
holds everything on the machine against the snapshot, not only what carries the session's marks; PODIUM_TEST_DIR names a
folder on a real file system for data directories.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from support import cleanup, images, keeper, network, sharing
from support.command import Podium
from support.disk import Disk
from support.distributions import Venv, make_plugin_dist
from support.snapshot import Scope, Snapshot, cgroup_mounts, settled, snapshot

BASE = os.environ.get("PODIUM_TEST_DIR") or f"/var/tmp/podium-tests-{os.getuid()}"
CGROUP_PARENT = f"podium-test-{os.getpid()}"


def pytest_configure(config: pytest.Config) -> None:
    """Put a process above us that adopts what the tests orphan."""
    if not config.option.collectonly and not config.option.help:
        keeper.keep()


def pytest_runtestloop(session: pytest.Session) -> bool | None:
    """One of several processes runs its part only."""
    return sharing.run(session, sharing.SHARE) if sharing.SHARE else None


@pytest.fixture(scope="session")
def session_dir() -> Iterator[str]:
    """A folder of this session on a real file system; its path is short, since sockets are made below it."""
    os.makedirs(BASE, exist_ok=True)
    folder = os.path.join(BASE, str(os.getpid()))
    while os.path.lexists(folder):  # of a session that was killed, and whose pid we have
        folder += "+"
    os.mkdir(folder)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)  # what could not be removed has failed its test


@pytest.fixture(scope="session")
def scope(session_dir: str) -> Scope:
    """What of the host belongs to this session."""
    parent = {f"cgroup:{mount}/{CGROUP_PARENT}" for mount in cgroup_mounts()}
    strict = os.environ.get("PODIUM_TEST_STRICT") == "1"
    return Scope({session_dir + "/", CGROUP_PARENT}, os.getppid(), parent, strict)


@pytest.fixture(scope="session", autouse=True)
def session_guard(scope: Scope) -> Iterator[None]:
    """Whatever the tests did, the host is as it was when the last has ended."""
    before = snapshot()
    yield
    cleanup.remove_cgroups(CGROUP_PARENT)
    left = settled(before, scope)
    # The environment and descriptors of the test process are each test's own business; pytest itself changes them.
    left = [line for line in left if line[2:].split(" ")[0] not in ("fd", "env")]
    cleanup.clean_up(scope, CGROUP_PARENT)
    assert not left, "the tests left something on the host:\n" + "\n".join(f"  {line}" for line in left)


@pytest.fixture
def test_dir(session_dir: str, request: pytest.FixtureRequest) -> Iterator[str]:
    """An empty folder of this test on a real file system, removed when the host has been looked at."""
    number = len(os.listdir(session_dir))
    folder = os.path.join(session_dir, str(number))
    while os.path.lexists(folder):
        number += 1
        folder = os.path.join(session_dir, str(number))
    os.mkdir(folder)
    yield folder
    cleanup.remove_folder(folder)


@pytest.fixture
def host_guard(scope: Scope, test_dir: str) -> Iterator[Snapshot]:
    """The host before the test; after it, it must be the same. What is left is told and then removed."""
    before, marks = snapshot(), set(scope.marks)
    yield before
    left = settled(before, scope)
    cleanup.clean_up(scope, CGROUP_PARENT)
    scope.marks &= marks  # a pod of the corpus has the same uuid in the process that tests beside this one
    assert not left, "the test left something on the host:\n" + "\n".join(f"  {line}" for line in left)


@pytest.fixture
def data_dir(test_dir: str, host_guard: Snapshot) -> str:
    """Path of a data directory that is not there yet."""
    return os.path.join(test_dir, "data")


@pytest.fixture(scope="session")
def config_file(session_dir: str) -> Iterator[str]:
    """A configuration that puts pods' cgroups below one of the session's own."""
    path = os.path.join(session_dir, "config.toml")
    with open(path, "w", encoding="utf-8") as f:
        f.write(f'[cgroup]\nparent = "{CGROUP_PARENT}"\n')
        f.write(network.settings(session_dir))
    yield path
    network.remove_bridge()


@pytest.fixture
def podium(data_dir: str, config_file: str, scope: Scope) -> Podium:
    """The podium command on a fresh data directory, under the guard."""
    return Podium(data_dir, config_file, scope)


@pytest.fixture(scope="session")
def busybox_rootfs(session_dir: str) -> str:
    """Folder of a busybox rootfs; must not be changed."""
    return images.make_busybox_rootfs(os.path.join(session_dir, "busybox"))


@pytest.fixture(scope="session")
def busybox_oci(busybox_rootfs: str, session_dir: str) -> str:
    """Path of an OCI archive of busybox, three layers."""
    return images.make_busybox_oci(busybox_rootfs, session_dir)


@pytest.fixture(scope="session")
def debian_oci() -> str:
    """Path of an OCI archive of a minimal Debian."""
    return images.debian_oci_archive()


@pytest.fixture
def plugin_dist(test_dir: str) -> Callable[..., str]:
    """`make_plugin_dist` with a folder of this test: (name, version, code, …) → path of the wheel."""

    def make(name: str, version: str, code: str | dict[str, str], **options: Any) -> str:
        return make_plugin_dist(os.path.join(test_dir, "wheels"), name, version, code, **options)

    return make


@pytest.fixture
def venv_with(test_dir: str) -> Callable[..., Venv]:
    """(wheels …) → a new venv with a copy of podium and these distributions."""
    made: list[Venv] = []

    def make(*wheels: str) -> Venv:
        made.append(Venv.make(os.path.join(test_dir, f"venv{len(made)}"), *wheels))
        return made[-1]

    return make


@pytest.fixture
def disk(data_dir: str, config_file: str) -> Disk:
    """A data directory whose pods the tests write themselves."""
    return Disk(data_dir, config_file)


@pytest.fixture
def outside(test_dir: str) -> str:
    """A folder that is no pod's."""
    folder = os.path.join(test_dir, "outside")
    os.mkdir(folder)
    return folder
