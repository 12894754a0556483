"""Where all is cgroup v2, as on hosts of today: in a virtual machine that boots so. PODIUM_TEST_FULL=1."""

from __future__ import annotations

import os
import shlex
import sys
from typing import Any

import pytest

from support import v2_checks, v2_guest
from support.fly import Fly

_TIMEOUT = 900.0  # seconds; the machine is emulated where /dev/kvm is not
_LIMITS: dict[str, list[dict[str, Any]]] = {
    "box": [],
    "slow": [{"name": "resource/block-bandwidth", "value": {"default": True, "limit": "1M"}}],
    "seldom": [{"name": "resource/block-iops", "value": {"default": True, "limit": "20"}}],
}


@pytest.mark.skipif(os.environ.get("PODIUM_TEST_FULL") != "1", reason="takes minutes: PODIUM_TEST_FULL=1")
def test_limits_and_ends_on_cgroup_v2_alone(fly: Fly) -> None:
    for name, isolators in _LIMITS.items():
        fly.image(name, source=fly.rootfs, isolators=isolators)
    images = [os.path.join(fly.dir, f"{name}.aci") for name in _LIMITS]
    podium = os.path.join(os.path.dirname(sys.executable), "podium")
    words = [sys.executable, "-B", v2_checks.__file__, podium, "/mnt/data", *images]
    code, said = v2_guest.run(fly.dir, "env HOME=/tmp PYTHONDONTWRITEBYTECODE=1 " + shlex.join(words), _TIMEOUT)
    wanted = {f"{check.__name__} {stage1} ok" for stage1 in v2_checks.NETWORKS for check in v2_checks.CHECKS}
    assert code == 0 and set(said.splitlines()) == wanted, f"ended with {code}:\n{said}"
