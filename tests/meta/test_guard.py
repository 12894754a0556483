"""The guard itself: it must see what it is there to see."""

from __future__ import annotations

import ctypes
import os
import subprocess
from collections.abc import Callable

import pytest

from support.command import Podium
from support.distributions import Venv
from support.snapshot import Scope, Snapshot, assert_same, cgroup_mounts, difference, our_processes, snapshot

TMPFS_LIBC = ctypes.CDLL(None, use_errno=True)


def test_guard_finds_nothing_when_nothing_happened(host_guard: Snapshot, scope: Scope) -> None:
    assert_same(host_guard, snapshot(), scope)


def test_guard_sees_a_mount_and_only_ours(host_guard: Snapshot, scope: Scope, test_dir: str) -> None:
    assert TMPFS_LIBC.mount(b"x", test_dir.encode(), b"tmpfs", 0, None) == 0
    try:
        lines = difference(host_guard, snapshot(), scope)
        assert [line.split(" = ")[0] for line in lines] == [f"+ mount {test_dir}"]
        assert difference(host_guard, snapshot(), Scope({"/somebody/else"}, scope.keeper)) == []
        with pytest.raises(AssertionError, match="not as it was before"):
            assert_same(host_guard, snapshot(), scope)
    finally:
        TMPFS_LIBC.umount2(test_dir.encode(), 0)


def test_guard_sees_an_orphan_and_the_keeper_reaps_it(host_guard: Snapshot, scope: Scope) -> None:
    # A grandchild whose parent is gone, with nothing in its command line or folders that is ours.
    command = "cd /; sleep 1000 >/dev/null 2>&1 & echo $!"
    pid = int(subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=True).stdout)
    try:
        after = snapshot()
        assert pid in [p.pid for p in our_processes(after, scope)]
        assert [line for line in difference(host_guard, after, scope) if f"+ process {pid} " in line]
    finally:
        fd = os.pidfd_open(pid)
        os.kill(pid, 9)
        import select

        assert select.select([fd], [], [], 10)[0]
        os.close(fd)


def test_guard_sees_a_cgroup_a_descriptor_and_the_environment(
    host_guard: Snapshot, scope: Scope, test_dir: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = os.path.join(cgroup_mounts()[0], f"{next(m for m in scope.marks if not m.startswith('/'))}-x")
    os.mkdir(folder)
    file = open(os.path.join(test_dir, "file"), "w")  # noqa: SIM115
    monkeypatch.setenv("PODIUM_GUARD", "1")
    try:
        lines = difference(host_guard, snapshot(), scope)
        assert [line.split(" = ")[0] for line in lines] == [
            f"+ cgroup {folder}",
            f"+ fd {test_dir}/file",
            "+ env PODIUM_GUARD",
        ]
    finally:
        file.close()
        os.rmdir(folder)


def test_venv_has_its_own_podium_and_versions_of_a_plugin(
    plugin_dist: Callable[..., str], venv_with: Callable[..., Venv], host_guard: Snapshot
) -> None:
    show = "import sample; print(sample.VALUE); import importlib.metadata as m; print(m.version('sample'))"
    own = "import podium, psutil, prctl; print(podium.__file__)"

    def run(code: str) -> str:
        return subprocess.run([venv.python, "-c", code], capture_output=True, text=True, check=True).stdout

    venv = venv_with(plugin_dist("sample", "1.0", "VALUE = 1\n"))
    assert run(own).startswith(venv.site)
    assert run(show) == "1\n1.0\n"
    venv.install(plugin_dist("sample", "2.0", "VALUE = 2\n"))
    assert run(show) == "2\n2.0\n"
    names = "from podium.stage1 import registry; print(registry.names())"
    assert "sample" in run(names)
    venv.uninstall("sample")
    assert "sample" not in run(names)
    assert [name for name in os.listdir(venv.site) if name.startswith("sample")] == []
    venv.patch("podium/errors.py", "Base of all errors", "Base of all patched errors")
    assert "patched" in run("import podium.errors; print(podium.errors.PodiumError.__doc__)")


def test_podium_runs_apart_from_the_session_environment(podium: Podium, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PODIUM_DIR", "/nowhere")
    assert "PODIUM_DIR" not in podium.environment()
    assert podium.using("/bin/true", EXTRA="1").environment()["EXTRA"] == "1"
