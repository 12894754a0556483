"""Fault 32: podium itself runs ten years from now or ago, while pods of the other time are there."""

from __future__ import annotations

import glob

import pytest

from podium.clock import rfc3339
from support import sweep
from support.command import Podium
from support.crashes import GC, TRUE, Host

LIBRARIES = glob.glob("/usr/lib/*/faketime/libfaketime.so.1")


@pytest.mark.parametrize("shift", ["+3650d", "-3650d"])
def test_32_podium_lives_at_another_time(podium: Podium, busybox_rootfs: str, test_dir: str, shift: str) -> None:
    """What ended or was prepared then is not collected early because of the clock, and not kept for ever."""
    now = Host.make(podium, busybox_rootfs, test_dir)
    (library,) = LIBRARIES
    # The clock since boot goes on as it is, and so do times of files: nobody sets these.
    env = {"LD_PRELOAD": library, "FAKETIME": shift, "FAKETIME_DONT_FAKE_MONOTONIC": "1", "NO_FAKE_STAT": "1"}
    then = Host(podium.using(podium.binary, **env), now.rootfs, test_dir)
    for here, there in ((now, then), (then, now)):
        exited, running, prepared = here.exited(), here.start(), here.prepare(*TRUE)
        year = int(here.podium.pods()[exited]["created"][:4])
        assert (year - int(rfc3339()[:4]) > 8) == (here is then and shift[0] == "+")
        assert (int(rfc3339()[:4]) - year > 8) == (here is then and shift[0] == "-")
        assert there.podium.json("gc", "--grace-period", "1h", "--expire-prepared", "1h")["collected"] == []
        assert there.podium.pods().keys() == {exited, running, prepared}
        assert there.podium("enter", running, "--", "true").returncode == 0
        assert there.podium.json("image", "gc")["images"] == []
        there.podium("run-prepared", prepared)
        there.podium("stop", running)
        assert set(there.podium.json(*GC)["collected"]) == {exited, running, prepared}
    assert then.podium("list").returncode == 0
    sweep.record("a clock that is off by ten years", shift, None)
