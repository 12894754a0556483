"""Faults 1, 28 and 29: the Nth system call of each kind is the last one, or fails; one gc later nothing is left.

strace injects. First it lists the calls that are about the data directory, cgroups or mounts; then the command is run
once for each of them and each thing that can go wrong there.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Callable
from typing import NamedTuple

import pytest

from support import sweep
from support.command import Podium
from support.crashes import CODES, FLY, GC, IMAGE_GC, NSPAWN, TRUE, Host
from support.snapshot import Scope, Snapshot

# Kinds of calls, and what goes wrong with them. A name with ? may be missing on this architecture.
KINDS = {
    "rename": ("?rename", "?renameat", "renameat2"),
    "mkdir": ("?mkdir", "mkdirat"),
    "open": ("?open", "openat", "openat2"),
    "write": ("write", "pwrite64"),
    "fsync": ("fsync", "fdatasync", "syncfs"),
    "mount": ("mount", "move_mount", "fsmount", "open_tree", "mount_setattr"),
    "unmount": ("umount2",),
    "remove": ("?unlink", "unlinkat", "?rmdir"),
}
WRONG = ("KILL", "ENOSPC", "EIO", "EMFILE")
_CALL = re.compile(r"(\d+) +(\w+)\(")
_NUMBERS = re.compile(r"[0-9a-f]{8}-[0-9a-f-]{27}|[0-9a-f]{12,}|\d+")
_MANY = re.compile(r"(/lib|/rootfs|/cgroup)/.*")
_MOUNTS = ("mount", "umount2", "move_mount", "fsmount", "open_tree", "mount_setattr")
TOGETHER = 6  # after so many, gc has to find everything that they left


class Call(NamedTuple):
    """The Nth call of that name by a process, as a sweep names it."""

    name: str
    number: int


class Case(NamedTuple):
    """A command, what to do before each time, and how many of its calls each kind of fault meets in CI."""

    words: tuple[str, ...]
    before: Callable[[Host], object] = lambda host: None
    in_ci: int = 3


def _import(host: Host) -> None:
    host.another_rootfs()


def _one_of_each(host: Host) -> None:
    host.abandoned()
    host.prepare()


CASES = {
    "import": Case(("image", "import", "ROOTFS", "--name", "other", "--exec", "/bin/true"), _import),
    "first_prepare": Case(("prepare", *FLY, *TRUE), lambda host: host.podium(*IMAGE_GC)),  # it makes a pin
    "prepare": Case(("prepare", *FLY, *TRUE)),
    "run": Case(("run", *FLY, *TRUE)),
    "run_nspawn": Case(("run", *NSPAWN, *TRUE), in_ci=1),
    "gc": Case(GC, _one_of_each),
    "gc_nspawn": Case(GC, lambda host: host.abandoned(NSPAWN), in_ci=1),
    "image_gc": Case(IMAGE_GC, Host.unnamed),
}


@pytest.fixture
def host(podium: Podium, busybox_rootfs: str, test_dir: str) -> Host:
    return Host.make(podium, busybox_rootfs, test_dir)


class Strace:
    """A podium that runs under strace, which traces some calls into `log`."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.log = os.path.join(host.folder, "strace")

    def __call__(self, inject: str | None, words: tuple[str, ...]) -> tuple[int, str]:
        """Exit code and standard error of the command; -9 if its own process was killed."""
        podium = self.host.podium
        names = [name for kind in KINDS.values() for name in kind]
        words = tuple(self.host.rootfs if word == "ROOTFS" else word for word in words)
        tracer = ["strace", "-f", "-y", "-qq", "-o", self.log, "-e", f"trace={','.join(names)}"]
        argv = [*tracer, *(["-e", f"inject={inject}"] if inject else []), "--", *podium.argv(*words)]
        done = subprocess.run(
            argv,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            env=podium.environment(),
            timeout=120,
            check=False,
        )
        return done.returncode, done.stderr

    def calls(self) -> list[Call]:
        """Those in the log that are about the data directory, cgroups or mounts, not podium's own code.

        Of those that differ by a file among many alone (of a pin's 500 modules, of a tree, of the hierarchies of
        cgroups) the first and the last.
        """
        seen: dict[tuple[str, str], int] = {}
        alike: dict[str, list[Call]] = {}
        for line in self.lines():
            if (found := _CALL.match(line)) is None:
                continue
            pid, name = found.groups()
            seen[pid, name] = seen.get((pid, name), 0) + 1
            if self.is_ours(name, line):
                alike.setdefault(_shape(name, line), []).append(Call(name, seen[pid, name]))
        chosen = {call for calls in alike.values() for call in (calls[0], calls[-1])}
        return [call for call in dict.fromkeys(c for calls in alike.values() for c in calls) if call in chosen]

    def is_ours(self, name: str, line: str) -> bool:
        return name in _MOUNTS or self.host.podium.dir in line or "/cgroup/" in line

    def lines(self) -> list[str]:
        with open(self.log, encoding="utf-8", errors="replace") as f:
            return f.readlines()

    def silenced(self) -> bool:
        """Whether what was made to fail was the message itself."""
        return any("(INJECTED)" in line and "write(2<" in line for line in self.lines())

    def hit(self) -> str | None:
        """The call that was made to fail, where that is one of ours."""
        for line in self.lines():
            found = _CALL.match(line)
            if "(INJECTED)" in line and found is not None and self.is_ours(found[2], line):
                return line.strip()
        return None


def _shape(name: str, line: str) -> str:
    """What a call is about, without numbers and what tells one of many alike from another."""
    line = re.sub(r'>, "([^/"][^"]*)"', r"/\1>", line)  # the name that is looked for in that folder
    paths = re.findall(r"<(/[^>]*)" if "write" in name else r'[<"](/[^">]*)', line)
    return " ".join([name, *(_MANY.sub(r"\1/*", _NUMBERS.sub("N", path)) for path in paths)])


@pytest.mark.parametrize("name", CASES)
def test_28_the_nth_call_fails(host: Host, name: str, scope: Scope) -> None:
    case, strace = CASES[name], Strace(host)
    for stage1 in (FLY, NSPAWN):  # their pins are there
        host.podium("run", "--rm", *stage1, *TRUE)
    case.before(host)
    code, said = strace(None, case.words)
    assert code == 0, said
    calls = strace.calls()
    assert {call.name for call in calls} & {"rename", "renameat2", "unlink", "unlinkat"}, "nothing was traced"
    host.podium(*GC)
    before = host.look()
    wrong = [fault for injected in WRONG for fault in _inject(strace, case, name, calls, injected, before, scope)]
    assert not wrong, "\n".join(wrong)
    host.podium("image", "verify")
    assert host.podium.out("run", "--rm", *FLY, "box", "--exec", "/bin/busybox", "--", "echo", "fine") == "fine"


def _inject(
    strace: Strace, case: Case, name: str, calls: list[Call], injected: str, before: Snapshot, scope: Scope
) -> list[str]:
    """What was wrong after `injected` was made to happen at each of the calls."""
    host, faults = strace.host, list[str]()
    if injected == "EMFILE":
        calls = [call for call in calls if "open" in call.name or call.name == "fsmount"]  # nothing else can say so
    # Each kind of fault meets other calls, where it can't meet all.
    chosen = sweep.sample(calls if sweep.LONG else calls[WRONG.index(injected) :: len(WRONG)], case.in_ci)
    unlooked = []
    for index, call in enumerate(chosen):
        case.before(host)
        how = "signal=KILL" if injected == "KILL" else f"error={injected}"
        code, said = strace(f"{call.name}:{how}:when={call.number}", case.words)
        hit = strace.hit()
        what = f"{call.name} #{call.number}: {injected} in {hit}"
        unlooked.append(what)
        if injected != "KILL" and hit is not None:
            mute = bool(code) and "podium: " not in said and not strace.silenced()
            if code not in CODES or mute or "Traceback" in said or "internal error" in said:
                faults.append(f"{what}: exited {code} and said {said!r}")
        if len(unlooked) == TOGETHER or index == len(chosen) - 1:
            if injected == "KILL":
                host.forget_unborn()
            fault = host.wrong_after_gc(before, scope)
            if fault is not None:
                faults.append(f"one of {unlooked}: {fault}")
                before = host.look()
            unlooked.clear()
    sweep.record(f"{injected} in the Nth call of {name.replace('_', ' ')}", len(chosen), len(faults))
    return faults
