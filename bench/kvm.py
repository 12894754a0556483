"""Virtual machines: what podium adds to the bare QEMU command, to a command in a guest, and while a guest idles.

python bench/kvm.py [--rounds 5]

`podium run IMAGE` of /bin/true, in the foreground, against qemu-system-x86_64 as podium calls it, with the same kernel,
disks and initial file system, until its guest has said its first word (that it has booted); the image is converted
already. Under TCG a boot takes seconds, so the rounds are few. What podium's own processes hold is measured by
memory.py.
"""

from __future__ import annotations

import json
import os
import re
import stat
import subprocess
import time
from typing import Any

from measuring import arguments, data_directory, in_turns, median, podium, run, show, verdict, with_image
from memory import at_rest, pss

from podium.sandbox import kernels
from podium_kvm import accelerator, making
from podium_kvm.initrd import archive
from podium_kvm.machine import STREAMS, Machine
from podium_kvm.machine import arguments as qemu_arguments

BUDGET_RUN, BUDGET_ENTER, BUDGET_IDLE = 1.15, 150, 3.0
_KVM = ("--stage1", "kvm", "--net", "none")
_IDLE = 10.0  # seconds
_PAUSE = 0.3  # seconds: a killed QEMU gives its memory back after its caller has ended
_FOREVER = ("--exec", "/bin/sleep", "--", "100000")


def main() -> None:
    """Measure."""
    args = arguments(__doc__, 5)
    with data_directory() as root:
        data = with_image(root, "/bin/true")
        run(podium(data, "run", "--rm", *_KVM, "bench"))  # converts kernel and image
        commands = {
            "qemu alone, to its first output": _bare(data),
            "podium run": podium(data, "run", *_KVM, "bench"),
        }
        taken = in_turns(commands, args.rounds, _PAUSE)
        print("podium run --stage1 kvm --net none IMAGE (/bin/true)")
        show(taken)
        verdict("of bare QEMU", median(taken["podium run"]) / median(taken[next(iter(taken))]), BUDGET_RUN, " ×")
        _running(data, args.rounds)


def _running(data: str, rounds: int) -> None:
    """Of a machine that runs."""
    run(podium(data, "run", "--detach", "--name", "vm", *_KVM, "bench", *_FOREVER))
    try:
        time.sleep(3)  # what the guest's kernel does after a boot
        pod = _status(data)
        at_rest(pod["pid"])
        before, at = _cpu(pod["leader"], pod["pid"]), time.monotonic()
        time.sleep(_IDLE)
        spent, passed = _cpu(pod["leader"], pod["pid"]) - before, time.monotonic() - at
        verdict("idle processor time of QEMU and podium's own", spent / passed * 100, BUDGET_IDLE, " %")
        print(f"  PSS of QEMU with a guest of 128 MiB: {pss(pod['leader']):.0f} MiB")
        taken = in_turns({"podium enter POD -- true": podium(data, "enter", "vm", "--", "true")}, 4 * rounds)
        show(taken)
        verdict("median", median(*taken.values()), BUDGET_ENTER, " ms")
    finally:
        run(podium(data, "stop", "--force", "vm"))
        run(podium(data, "gc", "--grace-period", "0s"))


def _status(data: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(subprocess.check_output(podium(data, "status", "--format", "json", "vm")))["pod"]
    return found


def _cpu(*pids: int) -> float:
    """Seconds of processor time."""
    total = 0
    for pid in pids:
        with open(f"/proc/{pid}/stat", encoding="utf-8") as f:
            total += sum(map(int, f.read().rpartition(")")[2].split()[11:13]))
    return total / os.sysconf("SC_CLK_TCK")


_FIRST = 'exec 3< <(exec "$@"); read -rN 1 <&3 || exit; kill -9 $!'  # a command, until it has printed; it has to


def _bare(data: str) -> list[str]:
    """QEMU as podium calls it, on what a pod was prepared with; its guest's first word is that it has booted."""
    uuid = subprocess.check_output(podium(data, "prepare", *_KVM, "bench"), text=True).strip()
    stage1 = os.path.join(data, "pods/prepared", uuid, "stage1")
    with open(os.path.join(stage1, "kernel"), encoding="ascii") as f:
        kernel = kernels.stored(data, f.read().strip())
    initrd = os.path.join(stage1, "vm/initrd")
    with open(initrd, "ab") as f:
        f.write(archive([("pod/network", stat.S_IFREG | 0o600, b"")]))  # which a run of podium adds
    erofs = os.path.join(data, "erofs")
    (image,) = (name for name in os.listdir(erofs) if name.endswith(".img"))
    machine = Machine(
        name="bare",
        accelerator=accelerator.choose(data, accelerator.AUTO).name,
        memory=making.MIN_MEMORY,
        cpus=1,
        kernel=kernel.vmlinux,
        initrd=initrd,
        images=(("image0", os.path.join(erofs, image)),),
        disk=os.path.join(stage1, "vm/rw"),
        console=0,
        qmp=0,
        command=0,
        ports=(("status", 0), *((f"bench.{stream}", 0) for stream in STREAMS)),
    )
    argv = qemu_arguments(machine)
    at = argv.index("-add-fd")
    argv[at : at + 4] = ["-chardev", "null,id=p.ctl"]
    argv = [re.sub(r"^socket,id=([\w.]+),.*", r"null,id=\1", word) for word in argv]
    return [
        "bash",
        "-c",
        _FIRST,
        "bash",
        *(word.replace("null,id=p.status", "file,id=p.status,path=/dev/stdout") for word in argv),
    ]


if __name__ == "__main__":
    main()
