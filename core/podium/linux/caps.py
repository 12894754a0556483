"""Capabilities: names and numbers, and becoming a user with some of them. See capabilities(7).

What an app is left with, as in OCI runtimes: the bounding set is what is retained. An app of user 0 has all of it,
permitted and effective; an app of another user has none effective, and gets no more than the bounding set by executing
a file with capabilities. The inheritable and ambient sets are empty: with inheritable ones an app of another user could
gain capabilities by executing files that have these inheritable too (CVE-2022-24769).
"""

from __future__ import annotations

import ctypes
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

# linux/capability.h, in the order of their numbers.
NAMES = tuple(
    f"CAP_{name}"
    for name in (
        *("CHOWN", "DAC_OVERRIDE", "DAC_READ_SEARCH", "FOWNER", "FSETID", "KILL", "SETGID", "SETUID", "SETPCAP"),
        *("LINUX_IMMUTABLE", "NET_BIND_SERVICE", "NET_BROADCAST", "NET_ADMIN", "NET_RAW", "IPC_LOCK", "IPC_OWNER"),
        *("SYS_MODULE", "SYS_RAWIO", "SYS_CHROOT", "SYS_PTRACE", "SYS_PACCT", "SYS_ADMIN", "SYS_BOOT", "SYS_NICE"),
        *("SYS_RESOURCE", "SYS_TIME", "SYS_TTY_CONFIG", "MKNOD", "LEASE", "AUDIT_WRITE", "AUDIT_CONTROL", "SETFCAP"),
        *("MAC_OVERRIDE", "MAC_ADMIN", "SYSLOG", "WAKE_ALARM", "BLOCK_SUSPEND", "AUDIT_READ", "PERFMON", "BPF"),
        "CHECKPOINT_RESTORE",
    )
)
_NUMBERS = {name: number for number, name in enumerate(NAMES)}

# What os/linux/capabilities-remove-set takes from, and what an app without an isolator keeps (ace.md of appc).
DEFAULT_NAMES = tuple(
    f"CAP_{name}"
    for name in (
        *("AUDIT_WRITE", "CHOWN", "DAC_OVERRIDE", "FSETID", "FOWNER", "KILL", "MKNOD", "NET_RAW", "NET_BIND_SERVICE"),
        *("SETUID", "SETGID", "SETPCAP", "SETFCAP", "SYS_CHROOT"),
    )
)

_VERSION_3 = 0x20080522


def parse(names: Iterable[str]) -> frozenset[int]:
    """Numbers of capabilities by name, in any case, with or without `CAP_`.

    Raises:
        BadInput: there is none of that name.
    """
    found = set()
    for name in names:
        upper = name.upper()
        number = _NUMBERS.get(upper if upper.startswith("CAP_") else f"CAP_{upper}")
        if number is None:
            from podium.errors import BadInput

            raise BadInput(
                f"{name!r} is no capability", hint="capabilities(7) lists them; for example CAP_NET_RAW", subject=name
            )
        found.add(number)
    return frozenset(found)


def names(numbers: Iterable[int]) -> list[str]:
    """Names of capabilities, in the order of their numbers."""
    return [NAMES[number] if number < len(NAMES) else f"CAP_{number}" for number in sorted(numbers)]


def last() -> int:
    """Number of the last capability that the kernel has."""
    with open("/proc/sys/kernel/cap_last_cap", encoding="utf-8") as f:
        return int(f.read())


def become(uid: int, gid: int, retain: frozenset[int] | None, have: dict[str, frozenset[int]] | None = None) -> None:
    """Take a user and a group for good, and give up all capabilities but `retain`. Groups are the caller's business.

    Args:
        uid, gid: numbers.
        retain: numbers; those that the caller itself lacks are not given; None: all that the caller has.
        have: what `current` gave before the caller changed its root to one without /proc; None: ask now.
    """
    from podium.linux.syscalls import prctl

    if have is None:
        have = current()
    if retain is None:
        retain = have["bounding"]
    for number in have["bounding"] - retain:
        prctl(24, number)  # PR_CAPBSET_DROP; python-prctl knows only the capabilities it was built with
    os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, uid)  # for another user than 0 this clears permitted and effective
    left = retain & have["permitted"] if uid == 0 else frozenset[int]()
    _set(left)


def _set(permitted: frozenset[int]) -> None:
    """capset(2): permitted and effective; nothing inheritable, so nothing ambient."""
    from struct import pack

    from podium.linux import syscalls

    mask = sum(1 << number for number in permitted)
    low, high = mask & 0xFFFFFFFF, mask >> 32
    header = pack("Ii", _VERSION_3, 0)
    data = pack("6I", low, low, 0, high, high, 0)
    syscalls.check(syscalls.raw("capset", ctypes.c_char_p, ctypes.c_char_p)(header, data), "capset")


def set_no_new_privileges() -> None:
    """No program executed from now on gives more rights (PR_SET_NO_NEW_PRIVS)."""
    import prctl

    prctl.set_no_new_privs(1)


def current(pid: int | str = "self") -> dict[str, frozenset[int]]:
    """A process's sets: inheritable, permitted, effective, bounding, ambient (proc_pid_status(5))."""
    sets = {"Inh": "inheritable", "Prm": "permitted", "Eff": "effective", "Bnd": "bounding", "Amb": "ambient"}
    found = {}
    with open(f"/proc/{pid}/status", encoding="utf-8", errors="replace") as f:
        for line in f:
            if line.startswith("Cap"):
                mask = int(line[8:], 16)
                found[sets[line[3:6]]] = frozenset(n for n in range(64) if mask >> n & 1)
    return found
