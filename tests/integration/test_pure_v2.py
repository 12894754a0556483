"""Where all is cgroup v2, as on hosts of today: in a virtual machine that boots so. PODIUM_TEST_FULL=1.

The tests of isolators run there as they are; PODIUM_TEST_V2 has words of pytest's in place of their modules.
"""

from __future__ import annotations

import os
import shlex
import sys
from typing import Any

import pytest

from support import v2_checks, v2_guest
from support.distributions import REPOSITORY
from support.fly import Fly

_TIMEOUT = float(os.environ.get("PODIUM_TEST_V2_TIMEOUT", "3600"))  # seconds; the machine is emulated
_MODULES = ("tests/integration/test_fly_isolators.py", "tests/integration/test_nspawn_isolators.py")
_LIMITS: dict[str, list[dict[str, Any]]] = {
    "box": [],
    "slow": [{"name": "resource/block-bandwidth", "value": {"default": True, "limit": "1M"}}],
    "seldom": [{"name": "resource/block-iops", "value": {"default": True, "limit": "20"}}],
}


pytestmark = pytest.mark.skipif(os.environ.get("PODIUM_TEST_FULL") != "1", reason="takes minutes: PODIUM_TEST_FULL=1")


def test_limits_and_ends_on_cgroup_v2_alone(fly: Fly) -> None:
    for name, isolators in _LIMITS.items():
        fly.image(name, source=fly.rootfs, isolators=isolators)
    images = [os.path.join(fly.dir, f"{name}.aci") for name in _LIMITS]
    podium = os.path.join(os.path.dirname(sys.executable), "podium")
    words = [sys.executable, "-B", v2_checks.__file__, podium, "/mnt/data", *images]
    code, said = v2_guest.run(fly.dir, shlex.join(words), _TIMEOUT)
    wanted = {f"{check.__name__} {stage1} ok" for stage1 in v2_checks.NETWORKS for check in v2_checks.CHECKS}
    assert code == 0 and set(said.splitlines()) == wanted, f"ended with {code}:\n{said}"


def test_the_tests_of_isolators_there(host_guard: object, test_dir: str) -> None:
    chosen = shlex.split(os.environ.get("PODIUM_TEST_V2", "")) or _MODULES
    pytest_there = (sys.executable, "-B", "-m", "pytest", "-q", "-p", "no:cacheprovider", "--durations=5", *chosen)
    command = f"cd {REPOSITORY} && PODIUM_TEST_DIR=/mnt/tests exec {shlex.join(pytest_there)}"
    code, said = v2_guest.run(test_dir, command, _TIMEOUT)
    print(said)
    assert code == 0, f"ended with {code}:\n{said}"
