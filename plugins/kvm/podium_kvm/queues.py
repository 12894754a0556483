"""How many buffers QEMU offers its guest for each queue of a port, each a page of the guest's memory.

Linux's driver (drivers/char/virtio_console.c) fills them all. There were 128; QEMU 10.0.13, and others of its time,
have 1024. So QEMU is asked, once for each: what it says is kept in cache/kvm-queues.
"""

from __future__ import annotations

import os

from podium.linux.files import write_atomic
from podium.linux.programs import needed
from podium_kvm.machine import QEMU

FEW, MANY = 128, 1024
_TIMEOUT = 10.0  # seconds
_COMMANDS = (
    {"execute": "qmp_capabilities"},
    {
        "execute": "x-query-virtio-queue-status",  # since QEMU 7.2
        "arguments": {"path": "/machine/peripheral/bus/virtio-backend", "queue": 0},
    },
    {"execute": "quit"},
)


def size(data_root: str) -> int:
    """Buffers of a queue; MANY where QEMU does not say.

    Raises:
        HostLacks: there is no QEMU.
    """
    program = needed(QEMU, "qemu-system-x86")
    found, place = os.stat(program), os.path.join(data_root, "cache", "kvm-queues")
    key = f"{program} {found.st_dev} {found.st_ino} {found.st_size} {found.st_mtime_ns}"
    try:
        with open(place, encoding="utf-8") as f:
            known, number = f.read().splitlines()
        if known == key:
            return int(number)
    except (OSError, ValueError):
        pass
    answer = ask(program)
    if answer is None:
        return MANY
    try:
        write_atomic(place, f"{key}\n{answer}\n".encode(), durable=False)
    except OSError:
        pass  # it is asked again next time
    return answer


def ask(program: str) -> int | None:
    """What a QEMU says that never runs its guest; None if it does not."""
    import json
    import subprocess

    argv = [program, "-S", "-M", "q35", "-nodefaults", "-no-user-config", "-display", "none"]
    argv += ["-device", "virtio-serial-pci,id=bus", "-qmp", "stdio"]
    asked = "".join(f"{json.dumps(command)}\n" for command in _COMMANDS)
    try:
        done = subprocess.run(argv, input=asked.encode(), capture_output=True, timeout=_TIMEOUT, check=False)
        answers = [json.loads(line) for line in done.stdout.decode().splitlines()]
        return next(int(a["return"]["vring-num"]) for a in answers if "vring-num" in a.get("return", ""))
    except (OSError, subprocess.SubprocessError, ValueError, TypeError, AttributeError, StopIteration):
        return None
