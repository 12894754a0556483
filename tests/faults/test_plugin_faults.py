"""Faults 3 and 14: plugins that are gone, renamed or upgraded, and loop devices of killed pods."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from podium.linux import loop
from support.command import Podium
from support.crashes import GC
from support.distributions import Venv
from support.fly import until
from support.sample import sample_code

LOOPS = 50 if os.environ.get("PODIUM_TEST_FULL") == "1" else 6
# A stage1 that attaches a file of the pod's, as one with images of file systems does, and is told to keep it.
ATTACHES = """
@hookimpl
def stage1_run(pod, supervisor):
    from podium.linux import loop
    path = os.path.join(pod.stage1_dir, "image")
    with open(path, "wb") as f:
        f.truncate(1 << 20)
    number = supervisor.ledger.intend("loop", path)
    device, fd = loop.attach(path, read_only=True, autoclear=False)
    os.close(fd)
    supervisor.ledger.held(number, device=device)
    return supervisor.run_apps(Sandbox(pod))
"""


@pytest.fixture
def venv(venv_with: Callable[..., Venv]) -> Venv:
    return venv_with()


@pytest.fixture
def sample(podium: Podium, venv: Venv, busybox_oci: str, test_dir: str) -> Podium:
    made = podium.using(venv.podium, SAMPLE_TRACE=os.path.join(test_dir, "trace"))
    made("image", "import", busybox_oci, "--name", "box")
    return made


def _traces(test_dir: str) -> list[str]:
    with open(os.path.join(test_dir, "trace"), encoding="utf-8") as f:
        return f.read().splitlines()


@pytest.mark.parametrize("pinned", [True, False], ids=["with its pin", "without its pin"])
def test_03_another_plugin_never_serves_a_pod(
    sample: Podium, venv: Venv, plugin_dist: Callable[..., str], test_dir: str, pinned: bool
) -> None:
    """Its distribution is removed, and one of another name brings a plugin by the same name, of the same interface."""
    venv.install(plugin_dist("sample", "1.0", sample_code("mine")))
    uuid = sample.out("prepare", "--stage1", "sample", "box", "--", "true")
    venv.uninstall("sample")
    venv.install(plugin_dist("usurper", "1.0", sample_code("usurper"), plugin="sample"))
    assert sample.pods()[uuid]["stage1"]["version"] == "mine"
    if pinned:
        sample("run-prepared", uuid)
        (told,) = sample.json(*GC)["dispatch"]
        assert (told["via"], told["version"]) == ("pin", "mine")
        assert _traces(test_dir) == ["prepare mine", "run mine", "gc mine"]
    else:
        pin = sample.pods()[uuid]["stage1"]["pin"]
        os.rename(os.path.join(sample.dir, "stage1", pin), os.path.join(sample.dir, "elsewhere"))
        refused = sample("run-prepared", uuid, check=125).stderr
        assert "sample" in refused and pin in refused and "usurper" in refused
        (told,) = sample.json(*GC)["dispatch"]
        assert told["via"] == "ledger" and "usurper" in told["why"]
        assert _traces(test_dir) == ["prepare mine"]
    assert sample.pods() == {}


@pytest.fixture
def broken_loop(test_dir: str) -> Iterator[str]:
    """A loop device of somebody else, whose file was deleted; yields the device."""
    path = os.path.join(test_dir, "foreign")
    with open(path, "wb") as f:
        f.truncate(1 << 20)
    backing = os.stat(path)
    device, fd = loop.attach(path, read_only=True, autoclear=False)
    os.close(fd)
    os.unlink(path)
    yield device
    loop.detach(device, (backing.st_dev, backing.st_ino))


def test_14_loop_devices_of_killed_pods(
    sample: Podium, venv: Venv, plugin_dist: Callable[..., str], broken_loop: str
) -> None:
    """Started at the same time, and killed with SIGKILL; a broken device of somebody else is in nobody's way."""
    code = sample_code("1.0")
    start, end = code.index("@hookimpl\ndef stage1_run"), code.index("@hookimpl\ndef stage1_enter")
    venv.install(plugin_dist("sample", "1.0", code[:start] + ATTACHES.lstrip() + "\n\n" + code[end:]))

    def run(_: int) -> str:
        return sample.out("run", "-d", "--stage1", "sample", "box", "--", "sleep", "1000")

    with ThreadPoolExecutor(8) as pool:
        uuids = list(pool.map(run, range(LOOPS)))
    below = os.path.join(sample.dir, "pods") + "/"
    assert len(loop.attached(below)) == LOOPS
    for uuid in uuids:
        os.kill(sample.json("status", uuid)["pod"]["pid"], signal.SIGKILL)
    until(lambda: all(pod["state"] != "running" or pod["problem"] for pod in sample.pods().values()), "all were killed")
    report = sample.json(*GC)
    assert {*report["collected"]} == {*uuids} and report["failed"] == []
    assert loop.attached(below) == []
    assert broken_loop in [found.device for found in loop.attached()]
