"""A snapshot of the host, and whether two of them are the same.

A snapshot holds everything that can be seen. What is compared depends on the scope: of a machine that others use at the
same time, only what carries one of the session's marks or descends from its keeper; with `strict`, everything but
kernel threads.
"""

from __future__ import annotations

import gc
import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterable, Iterator
from typing import NamedTuple

# kind → what it is called → how it looks
Things = dict[str, str]

FOLDERS = ("/run/podium", "/run/netns", "/run/systemd/nspawn", "/var/lib/podium", "/var/lib/cni", "/etc/podium")
NETNS_FOLDERS = ("/run/netns", "/run/podium/netns")
PATIENCE = 10.0  # seconds that what is ending (a supervisor, a cgroup) has to be gone


class Process(NamedTuple):
    """A process: `start` is its start time in clock ticks since boot."""

    pid: int
    ppid: int
    start: str
    state: str
    command: str
    places: str


class Scope:
    """What of the host is this session's.

    Attributes:
        marks: strings; what has one in its name, path, alias or command line is ours. Tests add to them.
        keeper: pid of the process that is above the session (None: this process's own descendants).
        ignored: names of things that the session itself keeps, such as its parent cgroup.
        strict: compare everything.
    """

    def __init__(
        self, marks: Iterable[str], keeper: int | None = None, ignored: Iterable[str] = (), strict: bool = False
    ) -> None:
        self.marks = set(marks)
        self.keeper = keeper
        self.ignored = set(ignored)
        self.strict = strict

    def has(self, text: str) -> bool:
        """Whether the text carries one of the marks."""
        return any(mark in text for mark in self.marks)


class Snapshot(NamedTuple):
    """The host at one moment: kind of thing → name → description; processes apart, since they have a family."""

    things: dict[str, Things]
    processes: dict[int, Process]


def snapshot(folders: Iterable[str] = FOLDERS) -> Snapshot:
    """Look at the host.

    Args:
        folders: whose files are listed, with type, size and mode.
    """
    gc.collect()  # descriptors of unreachable objects are no leak of podium's
    running = processes()
    things = {
        "mount": _mounts(),
        "netns": _network_namespaces(running),
        "link": links(),
        "rule": _rules(),
        "cgroup": _cgroups(),
        "loop": loop_devices(),
        "fd": _descriptors(),
        "env": {k: v for k, v in os.environ.items() if k != "PYTEST_CURRENT_TEST"},
        "file": _files(folders),
    }
    return Snapshot(things, running)


def difference(before: Snapshot, after: Snapshot, scope: Scope) -> list[str]:
    """One line for each thing that is in one snapshot only (+ new, - gone) or is not what it was (~)."""
    lines = []
    for kind, old in before.things.items():
        new = after.things[kind]
        for name in sorted(old.keys() | new.keys()):
            was, now = old.get(name), new.get(name)
            if was == now or f"{kind}:{name}" in scope.ignored:
                continue
            if scope.strict or kind in ("fd", "env") or scope.has(f"{name} {was} {now}"):
                lines.append(_line(kind, name, was, now))
    old_processes, new_processes = _ours(before, scope), _ours(after, scope)
    for key in sorted(old_processes.keys() ^ new_processes.keys()):
        was_there = old_processes.get(key)
        process = was_there or new_processes[key]
        sign = "-" if was_there else "+"
        lines.append(f"{sign} process {process.pid} (parent {process.ppid}): {process.command}")
    return lines


def assert_same(before: Snapshot, after: Snapshot, scope: Scope) -> None:
    """Fail with a readable difference if anything of ours came, went or changed."""
    lines = difference(before, after, scope)
    assert not lines, "the host is not as it was before:\n" + "\n".join(f"  {line}" for line in lines)


def settled(before: Snapshot, scope: Scope, folders: Iterable[str] = FOLDERS, patience: float = PATIENCE) -> list[str]:
    """The difference to `before`, once there is none or nothing that is ending can be an excuse any more."""
    deadline = time.monotonic() + patience
    pause = 0.01
    while True:
        lines = difference(before, snapshot(folders), scope)
        if not lines or time.monotonic() > deadline:
            return lines
        time.sleep(pause)
        pause = min(2 * pause, 0.5)


def _line(kind: str, name: str, was: str | None, now: str | None) -> str:
    if was is None:
        return f"+ {kind} {name}" + (f" = {now}" if now else "")
    if now is None:
        return f"- {kind} {name}" + (f" = {was}" if was else "")
    return f"~ {kind} {name}: {was!r} became {now!r}"


def _read(path: str) -> str:
    """A file of /proc or /sys; empty if it is gone by now."""
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as f:
            return f.read()
    except OSError:
        return ""


def _link(path: str) -> str:
    try:
        return os.readlink(path)
    except OSError:
        return ""


def _list(path: str) -> list[str]:
    try:
        return sorted(os.listdir(path))
    except OSError:
        return []


def _mounts() -> Things:
    """Mount point (numbered, since several can be stacked) → what is there; the ids left out."""
    found: Things = {}
    for line in _read("/proc/self/mountinfo").splitlines():
        fields, _, tail = line.partition(" - ")
        _, _, device, root, point, options, *propagation = fields.split(" ")
        kinds = ",".join(sorted(p.partition(":")[0] for p in propagation))
        name = point
        while name in found:
            name += " (another)"
        found[name] = " ".join((root, device, options, kinds, tail))
    return found


def processes() -> dict[int, Process]:
    """What runs, by pid."""
    found = {}
    for entry in os.listdir("/proc"):
        if not entry.isdigit() or not (stat := _read(f"/proc/{entry}/stat")):
            continue
        name, _, rest = stat.partition("(")[2].rpartition(")")
        fields = rest.split()
        command = _read(f"/proc/{entry}/cmdline").replace("\0", " ").strip() or f"[{name}]"
        places = " ".join(_link(f"/proc/{entry}/{what}") for what in ("root", "cwd", "ns/net"))
        places += " " + _read(f"/proc/{entry}/cgroup").replace("\n", " ")
        found[int(entry)] = Process(int(entry), int(fields[1]), fields[19], fields[0], command, places)
    return found


def _ours(shot: Snapshot, scope: Scope) -> dict[tuple[int, str], Process]:
    """The processes that the scope looks at: not ourselves, no zombies, no kernel threads."""
    family: dict[int, bool] = {}
    top = scope.keeper or os.getpid()

    def descends(pid: int) -> bool:
        if pid not in family:
            family[pid] = False
            process = shot.processes.get(pid)
            family[pid] = process is not None and (process.ppid == top or descends(process.ppid))
        return family[pid]

    return {
        (p.pid, p.start): p
        for p in shot.processes.values()
        if p.pid not in (os.getpid(), scope.keeper)
        and p.state not in "ZX"
        and p.ppid != 2
        and p.pid != 2
        and (scope.strict or descends(p.pid) or scope.has(f"{p.command} {p.places}"))
    }


def our_processes(shot: Snapshot, scope: Scope) -> list[Process]:
    """What of the session runs beside the test process itself."""
    return list(_ours(shot, scope).values())


def _network_namespaces(processes: dict[int, Process]) -> Things:
    """Names that pin a namespace → its inode; and namespaces that only processes hold."""
    found: Things = {}
    for folder in NETNS_FOLDERS:
        for name in _list(folder):
            path = os.path.join(folder, name)
            try:
                found[path] = f"net:[{os.stat(path).st_ino}]"
            except OSError:
                found[path] = "unreadable"
    for process in processes.values():
        namespace = next((part for part in process.places.split() if part.startswith("net:[")), None)
        if namespace:
            found.setdefault(namespace, "")
    return found


def links() -> Things:
    """Links with their alias and addresses."""
    output = _output("ip", "-json", "-details", "address")
    if output is None:
        lines = _read("/proc/net/dev").splitlines()[2:]
        return {line.partition(":")[0].strip(): "" for line in lines}
    found = {}
    for link in json.loads(output):
        addresses = sorted(f"{a.get('local')}/{a.get('prefixlen')}" for a in link.get("addr_info", ()))
        alias, kind = link.get("ifalias", ""), link.get("linkinfo", {}).get("info_kind", "")
        found[link["ifname"]] = " ".join(filter(None, (kind, alias, link.get("master", ""), *addresses)))
    return found


def _rules() -> Things:
    """Lines of the packet filters, without counters."""
    found: Things = {}
    for command in (("nft", "--stateless", "list", "ruleset"), ("iptables-save",), ("ip6tables-save",)):
        for line in (_output(*command) or "").splitlines():
            if line.startswith("#"):
                continue  # the time
            line = line.partition(" [")[0] if line.startswith(":") else line
            found[f"{command[0]}: {line.strip()}"] = ""
    return found


def _output(*command: str) -> str | None:
    """What a program prints; None if it is not installed or fails."""
    if shutil.which(command[0]) is None:
        return None
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    return done.stdout if done.returncode == 0 else None


def cgroup_mounts() -> list[str]:
    """Where cgroup hierarchies are mounted."""
    lines = _read("/proc/self/mounts").splitlines()
    return sorted({fields[1] for line in lines if (fields := line.split())[2] in ("cgroup", "cgroup2")})


def _cgroups() -> Things:
    return {folder: "" for mount in cgroup_mounts() for folder in _folders(mount)}


def _folders(top: str) -> Iterator[str]:
    for folder, _, _ in os.walk(top):
        yield folder


def loop_devices() -> Things:
    """Devices with what is behind them."""
    return {
        f"/dev/{name}": backing.strip()
        for name in _list("/sys/block")
        if name.startswith("loop") and (backing := _read(f"/sys/block/{name}/loop/backing_file"))
    }


def _descriptors() -> Things:
    """Open files of this process: what it is → how many times."""
    found: Things = {}
    for fd in _list("/proc/self/fd"):
        target = _link(f"/proc/self/fd/{fd}")
        if target:
            found[target] = str(int(found.get(target, "0")) + 1)
    found.pop(f"/proc/{os.getpid()}/fd", None)
    return found


def _files(folders: Iterable[str]) -> Things:
    found: Things = {}
    for top in folders:
        for folder, folders_below, files in os.walk(top):
            for name in [*folders_below, *files]:
                path = os.path.join(folder, name)
                try:
                    info = os.lstat(path)
                except OSError:
                    continue
                size = "" if name in folders_below else f" {info.st_size} bytes"
                found[path] = f"{info.st_mode:o}{size}"
    return found
