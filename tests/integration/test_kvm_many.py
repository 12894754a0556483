"""Several virtual machines of 128 MiB at once: started, entered, stopped, collected. PODIUM_TEST_FULL=1 takes eight."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor

from support import machines
from support.command import Podium

AT_ONCE = 8 if os.environ.get("PODIUM_TEST_FULL") == "1" else 2
START = ("run", "-d", "--stage1", "kvm", "--net", "default", "box", "--", "sleep", "1000")


def test_machines_started_at_once_are_entered_stopped_and_collected(box: Podium) -> None:
    with ThreadPoolExecutor(AT_ONCE) as pool:
        uuids = list(pool.map(lambda _: box.out(*START), range(AT_ONCE)))
        assert {pod["state"] for pod in box.pods().values()} == {"running"} and len(set(uuids)) == AT_ONCE
        told = [machines.status(box, uuid) for uuid in uuids]
        assert all(0 < int(pod["facts"]["guest_memory_kib"]) <= 128 << 10 for pod in told)
        assert len({pod["networks"][0]["ip"] for pod in told}) == AT_ONCE
        show = "hostname; cat /proc/sys/kernel/random/boot_id; ip -4 addr"
        said = list(pool.map(lambda uuid: box.out("enter", uuid, "--", "sh", "-c", show), uuids))
        for uuid, pod, lines in zip(uuids, told, said, strict=True):
            assert lines.startswith(f"podium-{uuid[:8]}\n") and f"inet {pod['networks'][0]['ip']}/" in lines
        assert len({lines.splitlines()[1] for lines in said}) == AT_ONCE  # each has a kernel of its own
        list(pool.map(lambda uuid: box("stop", uuid), uuids))
    assert not [pid for uuid in uuids for pid in machines.helpers(box, uuid, "qemu")]
    box("gc", "--grace-period", "0s")
    assert not box.pods()
