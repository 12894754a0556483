"""Real processes: recognised, signalled, awaited, and never mistaken for another."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator

import prctl
import pytest

from podium.linux import procs

BUSYBOX = "/bin/busybox"


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(["sleep", "1000"]) as child:
        yield child
        child.kill()


def _identify(pid: int) -> procs.Process:
    found = procs.identify(pid)
    assert found is not None
    return found


def test_a_live_sleeper_is_identified_signalled_and_awaited(sleeper: subprocess.Popen[bytes]) -> None:
    process = _identify(sleeper.pid)
    assert procs.alive(process)
    assert not procs.wait_end(process, 0)
    assert procs.signal_process(process, signal.SIGTERM)
    assert procs.wait_end(process, 10)
    assert not procs.alive(process)  # it is a zombie now
    assert procs.identify(sleeper.pid) == process
    assert sleeper.wait() == -signal.SIGTERM
    assert procs.identify(sleeper.pid) is None
    assert not procs.signal_process(process, signal.SIGTERM)
    assert procs.wait_end(process, 0)


@pytest.mark.parametrize("changed", [{"start_time": 12345}, {"boot_id": "another boot"}])
def test_fault_30_a_record_of_another_process_never_reaches_a_live_one(
    sleeper: subprocess.Popen[bytes], changed: dict[str, int]
) -> None:
    stale = _identify(sleeper.pid)._replace(**changed)
    assert not procs.alive(stale)
    assert procs.open_pidfd(stale) is None
    assert not procs.signal_process(stale, signal.SIGKILL)
    assert procs.wait_end(stale, None)
    assert sleeper.poll() is None


def test_a_name_with_parentheses_and_blanks_is_no_obstacle() -> None:
    pid = os.fork()
    if pid == 0:
        prctl.set_name(") Z 1 (")
        signal.raise_signal(signal.SIGSTOP)
        os._exit(0)
    os.waitpid(pid, os.WUNTRACED)
    try:
        with open(f"/proc/{pid}/comm", encoding="ascii") as f:
            assert f.read() == ") Z 1 (\n"
        assert procs.alive(_identify(pid))
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def _middle(linger: bool) -> procs.Process:
    """The grandchild of a child that has ended; with `linger` the child outlives the grandchild's own call."""
    read_end, write_end = os.pipe()
    middle = os.fork()
    if middle == 0:
        parent = os.getpid()
        ready_read, ready_write = os.pipe()
        if os.fork() == 0:
            if not linger:
                while os.getppid() == parent:  # let the parent end before
                    os.sched_yield()
            os.write(write_end, str(os.getpid()).encode())
            procs.die_with_parent(signal.SIGKILL, parent)
            os.write(ready_write, b"x")
            os.close(write_end)
            os.execv(BUSYBOX, ["busybox", "sleep", "1000"])
        if linger:
            os.read(ready_read, 1)
        os._exit(0)
    os.close(write_end)
    pid = int(os.read(read_end, 20))
    process = procs.identify(pid) or procs.Process(pid, 0, procs.boot_id())
    os.waitpid(middle, 0)
    os.close(read_end)
    return process


@pytest.mark.parametrize("linger", [True, False], ids=["after", "before"])
def test_a_process_dies_with_its_parent_ended_before_or_after(linger: bool) -> None:
    assert procs.wait_end(_middle(linger), 10)


def test_processes_rooted_below_a_folder_are_found(test_dir: str) -> None:
    inside = os.path.join(test_dir, "in side")
    os.makedirs(os.path.join(inside, "bin"))
    with open(BUSYBOX, "rb") as f, open(os.path.join(inside, "bin/busybox"), "wb") as copy:
        copy.write(f.read())
    os.chmod(os.path.join(inside, "bin/busybox"), 0o755)
    commands = {
        "root": ["chroot", inside, "/bin/busybox", "sleep", "1000"],
        "cwd": [BUSYBOX, "sleep", "1000"],
        "exe": [os.path.join(inside, "bin/busybox"), "sleep", "1000"],
        "elsewhere": [BUSYBOX, "sleep", "1000"],
    }
    started: dict[str, subprocess.Popen[bytes]] = {}
    try:
        for name, command in commands.items():
            started[name] = subprocess.Popen(command, cwd=inside if name == "cwd" else "/")
        mounts = f"mount --bind '{inside}' '{inside}' && cd '{inside}' && exec chroot . /bin/busybox sleep 1000"
        started["bind"] = subprocess.Popen(["unshare", "-m", "sh", "-c", mounts], cwd="/")
        for name in ("root", "exe", "bind"):  # they are there once they have executed the sleep
            while os.readlink(f"/proc/{started[name].pid}/exe") != os.path.join(inside, "bin/busybox"):
                os.sched_yield()
        found = {process.pid for process in procs.processes_rooted_below(inside)}
        assert found == {child.pid for name, child in started.items() if name != "elsewhere"}
    finally:
        for child in started.values():
            child.kill()
            child.wait()


def test_a_process_rooted_in_an_overlay_of_a_private_namespace_is_found(test_dir: str) -> None:
    for name in ("lower/bin", "lower/old", "pod/upper", "pod/work"):
        os.makedirs(os.path.join(test_dir, name))
    with open(BUSYBOX, "rb") as f, open(os.path.join(test_dir, "lower/bin/busybox"), "wb") as copy:
        copy.write(f.read())
    os.chmod(os.path.join(test_dir, "lower/bin/busybox"), 0o755)
    script = (
        f"mount -t tmpfs none /mnt && mkdir /mnt/r && mount -t overlay -o lowerdir={test_dir}/lower,"
        f"upperdir={test_dir}/pod/upper,workdir={test_dir}/pod/work none /mnt/r && cd /mnt/r && "
        "pivot_root . old && exec /bin/busybox sleep 1000"
    )
    child = subprocess.Popen(["unshare", "-m", "sh", "-c", script])
    try:
        while child.poll() is None and os.readlink(f"/proc/{child.pid}/exe") != "/bin/busybox":
            os.sched_yield()
        assert child.poll() is None
        assert [p.pid for p in procs.processes_rooted_below(os.path.join(test_dir, "pod"))] == [child.pid]
    finally:
        child.kill()
        child.wait()


def test_resources_are_summed_and_the_gone_left_out(sleeper: subprocess.Popen[bytes]) -> None:
    memory, cpu = procs.resources([os.getpid(), sleeper.pid, 2**22 + 1])
    alone, _ = procs.resources([os.getpid()])
    assert memory > alone > 0
    assert cpu > 0
    assert procs.resources([]) == (0, 0.0)
