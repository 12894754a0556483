"""A hostile guest fills its own disk and logs of bounded size, and nothing else of the host."""

from __future__ import annotations

import os

from podium.sandbox.console import MAX_BYTES as MAX_CONSOLE
from podium.sandbox.stdio import MAX_LOG
from podium_kvm import making
from support import machines
from support.command import Podium

# As root in its guest it reaches the serial console and the raw disk, beyond the last byte too; of the disk, what is
# only reserved costs the host nothing, so the test need not write all of it.
ATTACK = """
mknod /console c 4 64; tr '\\0' c </dev/zero | head -c 700000 >/console
tr '\\0' o </dev/zero | head -c 26000000; tr '\\0' e </dev/zero | head -c 9000000 >&2
fallocate -l 7G /reserved; fallocate -l 800M /reserved2
dd if=/dev/zero of=/big bs=1M count=900 2>/dev/null || echo; echo FULL
read -r major minor <<END
$(sed 's/:/ /' /sys/block/vdb/dev)
END
mknod /disk b $major $minor; dd if=/dev/zero of=/disk bs=1M seek=9000 count=1 2>/dev/null || echo; echo BEYOND
"""


def _sizes(folder: str) -> dict[str, int]:
    return {
        os.path.relpath(os.path.join(at, name), folder): os.lstat(os.path.join(at, name)).st_size
        for at, _, names in os.walk(folder)
        for name in names
    }


def test_a_guest_fills_its_disk_and_bounded_logs_alone(box: Podium) -> None:
    run = ("run", "-d", "--stage1", "kvm", "--net", "none", "box", "--name", "a", "--", "sh", "-c")
    uuid = box.out(*run, ATTACK)
    machines.until(lambda: machines.exit_code(box, uuid) is not None, "the end of the attack")
    folder = os.path.join(box.dir, "pods", "run", uuid)
    sizes = _sizes(folder)
    assert sizes.pop("stage1/vm/rw") == making.DISK_SIZE
    logs = {name.removeprefix("logs/"): size for name, size in sizes.items() if name.startswith("logs/")}
    assert sorted(logs) == ["_console", "_console.1", "a", "a.1"], logs
    assert all(size <= (MAX_CONSOLE if name.startswith("_") else MAX_LOG) for name, size in logs.items()), logs
    rest = {name: size for name, size in sizes.items() if not name.startswith("logs/") and "initrd" not in name}
    assert sum(rest.values()) < 1 << 20, rest
    said = box.out("logs", "--tail", "4", uuid)
    words = said.replace("o", "").replace("e", "")  # what stands between them came on standard error
    assert "FULL\n\nBEYOND" in words, words[-300:]
    box("gc", "--grace-period", "0s")
    assert not box.pods() and not os.path.exists(folder)
