"""Real cgroups, held against their effects."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from podium.errors import WrongState
from podium.linux import cgroup, hierarchies, procs
from podium.linux.hierarchies import Hierarchies

BUSYBOX = "/bin/busybox"
PARENT = f"podium-test-{os.getpid()}"


@pytest.fixture(scope="module", autouse=True)
def parent() -> Iterator[None]:
    yield
    cgroup.remove(PARENT)


@pytest.fixture(params=["all", "v2", "v1"])
def at(request: pytest.FixtureRequest) -> Hierarchies:
    host = hierarchies.current()
    if request.param == "v2":
        if host.v2 is None:
            pytest.skip("no v2 hierarchy")
        return Hierarchies(host.v2, host.v2_controllers, {})
    if request.param == "v1":
        if "freezer" not in host.v1:
            pytest.skip("no v1 hierarchies")
        return Hierarchies(None, frozenset(), host.v1)
    return host


@pytest.fixture
def path(request: pytest.FixtureRequest) -> Iterator[str]:
    name = f"{PARENT}/{abs(hash(request.node.name))}"
    yield name
    cgroup.kill(name)
    cgroup.remove(name)


def _run(path: str, action: Callable[[], object], at: Hierarchies | None = None) -> int:
    """Fork a child into the cgroup that does `action`; its pid."""
    pid = cgroup.fork(path, at)
    if pid == 0:
        code = 125
        try:
            cgroup.enter(path, at=at)
            code = int(action() or 0)  # type: ignore[call-overload]
        finally:
            os._exit(code)
    return pid


def _sleep() -> None:
    os.execv(BUSYBOX, ["busybox", "sleep", "1000"])


def _wait(pid: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def _until(condition: Callable[[], bool]) -> None:
    while not condition():
        time.sleep(0.001)


def _own_paths() -> dict[str, str]:
    """Controller (`systemd` for name=systemd, "" for v2) → cgroup of this process."""
    lines = [line.split(":", 2) for line in hierarchies.read("/proc/self/cgroup").splitlines()]
    return {name.removeprefix("name="): path for _, names, path in lines for name in names.split(",")}


def test_a_child_is_in_the_hierarchies_of_all_pods(path: str, at: Hierarchies) -> None:
    cgroup.create(path, at)
    cgroup.create(path, at)
    names = ({"memory", "systemd"} if at.v2 else {"memory", "systemd", "cpuacct", "freezer"}) & at.v1.keys()
    expected = names | ({""} if at.v2 else set())
    assert expected

    def look() -> bool:
        paths = _own_paths()
        return any(paths[name] != f"/{path}" for name in expected)

    assert _wait(_run(path, look, at)) == 0


def test_what_is_in_a_limited_cgroup_is_in_the_hierarchy_of_the_limit(path: str) -> None:
    limits = cgroup.Limits(pids_max=100)
    _need(limits)
    at = hierarchies.current()
    cgroup.create(path)
    cgroup.apply(path, limits)
    cgroup.create(f"{path}/app")
    name = "pids" if "pids" in at.v1 else ""
    assert _wait(_run(f"{path}/app", lambda: _own_paths()[name] != f"/{path}/app")) == 0
    cgroup.remove(path)
    assert not any(os.path.exists(folder) for folder in at.folders(path))


def test_another_process_is_moved(path: str, at: Hierarchies) -> None:
    cgroup.create(path, at)
    pid = os.fork()
    if pid == 0:
        _sleep()
    assert not cgroup.populated(path, at)
    cgroup.enter(path, pid, at)
    assert cgroup.populated(path, at)
    assert cgroup.procs(path, at) == [pid]
    assert path.split("/")[1] in cgroup.existing(PARENT, at)
    assert cgroup.kill(path, signal.SIGTERM, at=at)
    assert _wait(pid) == -signal.SIGTERM


def test_waiting_for_moves_moves_nobody_and_leaves_nothing(path: str) -> None:
    if hierarchies.current().v2 is None:
        pytest.skip("this host has no cgroup v2, where alone moves are waited for")
    cgroup.create(path)

    def wait() -> bool:
        def mine() -> tuple[dict[str, str], list[str], list[str]]:
            return _own_paths(), os.listdir("/proc/self/task"), sorted(os.listdir("/proc/self/fd"))

        before = mine()
        cgroup.expect_moves_soon()
        _until(lambda: len(os.listdir("/proc/self/task")) == 1)
        cgroup.expect_moves()
        return mine() != before

    assert _wait(_run(path, wait)) == 0


def test_moves_are_waited_for_by_moves_to_where_one_is(tmp_path: Path) -> None:
    if hierarchies.current().v2 is None:
        pytest.skip("this host has no cgroup v2, where alone moves are waited for")
    mine = tmp_path.joinpath(_own_paths()[""].lstrip("/"), "cgroup.procs")
    mine.parent.mkdir(parents=True, exist_ok=True)
    mine.touch()
    at = Hierarchies(str(tmp_path), frozenset(), {})
    cgroup.expect_moves(at)
    assert mine.read_text() == "0"
    cgroup.expect_moves_soon(at)
    _until(lambda: mine.read_text() == "00")
    mine.unlink()
    cgroup.expect_moves(at)  # what can't be is no error
    cgroup.expect_moves_soon(at)
    cgroup.expect_moves_soon(at._replace(v2=None))


def test_a_forked_child_is_a_whole_python_process(path: str) -> None:
    """It was made by clone3: threads, signals, forks and waits of its own work."""
    cgroup.create(path)

    def work() -> int:
        import threading

        done: list[int] = []
        thread = threading.Thread(target=lambda: done.append(threading.get_ident()))
        thread.start()
        thread.join()
        pid = os.fork()
        if pid == 0:
            os.kill(os.getpid(), signal.SIGTERM)
        return 7 if done and _wait(pid) == -signal.SIGTERM else 1

    assert _wait(_run(path, work)) == 7


def test_fault_12_nested_groups_and_lingering_processes_are_killed_and_removed(path: str, at: Hierarchies) -> None:
    cgroup.create(f"{path}/app", at)

    def linger() -> None:
        for number in range(3):
            name = f"{path}/app/own{number}/deeper"
            cgroup.create(name, at)
            if os.fork() == 0:
                os.setsid()
                signal.signal(signal.SIGTERM, signal.SIG_IGN)
                cgroup.enter(name, at=at)
                while True:
                    time.sleep(1)
        _sleep()

    pid = _run(f"{path}/app", linger, at)
    _until(lambda: len(cgroup.procs(path, at)) == 4 and len(cgroup.procs(f"{path}/app/own2", at)) == 1)
    with pytest.raises(OSError, match="busy"):
        cgroup.remove(path, timeout=0.01, at=at)
    assert cgroup.kill(path, at=at)
    assert _wait(pid) == -signal.SIGKILL
    assert not cgroup.populated(path, at)
    cgroup.remove(path, at=at)
    assert path.split("/")[1] not in cgroup.existing(PARENT, at)
    cgroup.remove(path, at=at)
    assert cgroup.kill(path, at=at)
    cgroup.create(path, at)  # the name can be used again at once
    cgroup.remove(path, at=at)


def test_a_forked_child_needs_to_import_nothing_to_end_with_its_parent(path: str) -> None:
    """Another user, as QEMU is one, may not read podium's code; nor is that there in another root."""
    cgroup.create(path)
    code = (
        "import os, sys; from podium.linux import cgroup, procs\n"
        "parent = os.getpid(); pid = cgroup.fork(sys.argv[1])\n"
        "if pid == 0:\n"
        "    sys.path.clear(); sys.meta_path.clear(); os.setresuid(65534, 65534, 65534)\n"
        "    procs.die_with_parent(9, parent); os._exit(7)\n"
        "sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))\n"
    )
    assert subprocess.run([sys.executable, "-c", code, path], check=False).returncode == 7


def test_a_fork_bomb_is_killed_on_v1_alone(path: str) -> None:
    host = hierarchies.current()
    if "freezer" not in host.v1 or "pids" not in host.v1:
        pytest.skip("no v1 hierarchies")
    at = Hierarchies(None, frozenset(), host.v1)
    cgroup.create(path, at)
    cgroup.apply(path, cgroup.Limits(pids_max=20), at)

    def bomb() -> None:
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        while True:
            try:
                os.fork()
            except OSError:
                time.sleep(0.001)

    pid = _run(path, bomb, at)
    _until(lambda: len(cgroup.procs(path, at)) > 10)
    assert cgroup.kill(path, at=at)
    assert _wait(pid) == -signal.SIGKILL
    assert cgroup.procs(path, at) == []


def test_nobody_kills_a_cgroup_from_inside(path: str) -> None:
    cgroup.create(f"{path}/in")

    def try_it() -> int:
        try:
            cgroup.kill(path)
        except WrongState:
            return 7
        return 1

    assert _wait(_run(f"{path}/in", try_it)) == 7


def _need(limits: cgroup.Limits) -> None:
    if lacking := cgroup.missing(limits):
        pytest.skip(f"no controllers {lacking}")


def test_too_much_memory_kills(path: str) -> None:
    limits = cgroup.Limits(memory_max=64 << 20, memory_low=16 << 20)
    _need(limits)
    cgroup.create(f"{path}/app")
    cgroup.apply(path, limits)
    assert _wait(_run(f"{path}/app", lambda: len(bytearray(os.urandom(1)) * (24 << 20)) == 0)) == 0
    assert not cgroup.oom_killed(path)
    assert _wait(_run(f"{path}/app", lambda: len(bytearray(os.urandom(1)) * (128 << 20)) == 0)) == -signal.SIGKILL
    assert cgroup.oom_killed(path)


def test_a_memory_limit_can_be_raised(path: str) -> None:
    _need(cgroup.Limits(memory_max=1))
    cgroup.create(path)
    cgroup.apply(path, cgroup.Limits(memory_max=64 << 20))
    cgroup.apply(path, cgroup.Limits(memory_max=256 << 20))
    assert _wait(_run(path, lambda: len(bytearray(os.urandom(1)) * (128 << 20)) == 0)) == 0


def test_more_processes_are_refused(path: str) -> None:
    _need(cgroup.Limits(pids_max=5))
    cgroup.create(path)
    cgroup.apply(path, cgroup.Limits(pids_max=5))

    def fork_many() -> int:
        for number in range(20):
            try:
                if os.fork() == 0:
                    _sleep()
            except BlockingIOError:
                return number
        return 100

    pid = _run(path, fork_many)
    assert _wait(pid) == 4


def test_cpu_is_throttled(path: str) -> None:
    limits = cgroup.Limits(cpu_millis=100, cpu_shares=512)
    _need(limits)
    cgroup.create(path)
    cgroup.apply(path, limits)

    def burn() -> None:
        start = time.process_time()
        while time.process_time() - start < 0.05:
            pass

    assert _wait(_run(path, burn)) == 0
    folder = hierarchies.current().folder("cpu", path)
    assert hierarchies.counters(f"{folder}/cpu.stat")["nr_throttled"] > 0
    used = cgroup.usage(path)
    assert used.cpu_seconds is not None and used.cpu_seconds >= 0.05


def test_a_killed_pid_reused_by_another_is_never_signalled(path: str) -> None:
    """What is not in the cgroup any more is left alone, even if its pid was read from there."""
    cgroup.create(path)
    pid = _run(path, _sleep)
    process = procs.identify(pid)
    assert process is not None
    cgroup.create(f"{PARENT}/other")
    cgroup.enter(f"{PARENT}/other", pid)
    try:
        cgroup._signal_all(path, signal.SIGKILL, hierarchies.current())
        assert procs.alive(process)
    finally:
        cgroup.kill(f"{PARENT}/other")
        _wait(pid)
        cgroup.remove(f"{PARENT}/other")


def test_the_module_does_not_load_what_is_slow() -> None:
    code = "import sys, podium.linux.cgroup; print([m for m in ('subprocess', 'psutil', 'prctl') if m in sys.modules])"
    read_end, write_end = os.pipe()
    pid = os.posix_spawn(
        sys.executable, [sys.executable, "-c", code], os.environ, file_actions=[(os.POSIX_SPAWN_DUP2, write_end, 1)]
    )
    os.close(write_end)
    with open(read_end) as f:
        assert f.read() == "[]\n"
    assert _wait(pid) == 0
