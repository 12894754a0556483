"""Capabilities, looked at in the processes that were to have them."""

from __future__ import annotations

import os

import pytest

from podium.errors import BadInput
from podium.linux import caps


def _after(uid: int, retain: frozenset[int] | None) -> dict[str, frozenset[int]]:
    """The sets of a program that was executed after `become`."""
    read_end, write_end = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.dup2(write_end, 1)
            os.setgroups([])
            caps.become(uid, uid, retain)
            caps.set_no_new_privileges()
            os.execv("/bin/busybox", ["busybox", "cat", "/proc/self/status"])
        finally:
            os._exit(1)
    os.close(write_end)
    with open(read_end) as f:
        lines = dict(line.split(":\t", 1) for line in f.read().splitlines())
    assert os.waitpid(pid, 0)[1] == 0
    assert lines["Uid"].split() == lines["Gid"].split() == [str(uid)] * 4
    assert lines["NoNewPrivs"] == "1"
    return {k: frozenset(n for n in range(64) if int(lines[k], 16) >> n & 1) for k in lines if k.startswith("Cap")}


def test_root_keeps_what_is_retained() -> None:
    retain = caps.parse(["cap_net_raw", "CHOWN"])
    after = _after(0, retain)
    assert after["CapBnd"] == after["CapPrm"] == after["CapEff"] == retain
    assert after["CapInh"] == after["CapAmb"] == frozenset()


def test_another_user_has_none_but_its_bounding_set() -> None:
    after = _after(1000, caps.parse(caps.DEFAULT_NAMES))
    assert after["CapBnd"] == caps.parse(caps.DEFAULT_NAMES) & caps.current()["bounding"]
    assert after["CapPrm"] == after["CapEff"] == after["CapAmb"] == after["CapInh"] == frozenset()


def test_nothing_and_everything() -> None:
    assert not any(_after(0, frozenset()).values())
    assert _after(0, None)["CapEff"] == caps.current()["bounding"]


def test_what_the_caller_lacks_is_not_given() -> None:
    everything = frozenset(range(caps.last() + 1))
    assert _after(0, everything)["CapEff"] == caps.current()["permitted"]


def test_names_and_numbers() -> None:
    assert caps.parse(["CAP_CHOWN", "bpf", "Cap_Checkpoint_Restore"]) == {0, 39, 40}
    assert caps.names({40, 0, 63}) == ["CAP_CHOWN", "CAP_CHECKPOINT_RESTORE", "CAP_63"]
    assert len(caps.DEFAULT_NAMES) == 14
    with pytest.raises(BadInput, match="CAP_NONSENSE"):
        caps.parse(["CAP_NONSENSE"])
