"""Collected means collected: after a life, a crash at any moment, a reboot."""

from __future__ import annotations

import os
from typing import ClassVar

import pytest

from podium.testing import cleanup
from podium.testing.pods import Pods
from podium.testing.snapshot import Scope, settled, snapshot

KINDS = ("mount", "netns", "link", "rule", "cgroup", "loop", "file", "process")


def _kind(line: str) -> str:
    """The kind of thing that a line of a difference is about; a namespace's name is a mount, too."""
    kind = line.split(" ")[1]
    return "netns" if kind in ("mount", "file") and ("/netns/" in line or "nsfs" in line) else kind


class LeakChecks:
    """See the package."""

    plugin: ClassVar[str]
    patience: ClassVar[float]

    @pytest.fixture(scope="class")
    @classmethod
    def left(cls, host: Pods, suite_scope: Scope) -> list[str]:
        """What a pod that ran, was stopped and collected has left on the host."""
        watched = ["/run/podium", "/run/netns", "/run/systemd/nspawn", "/var/lib/cni", f"{host.podium.dir}/pods"]
        host.run("true")
        host.gc()
        host.end_all()
        before = snapshot(watched)
        uuid = host.start("sleep 1000 & echo ready; exec sleep 1000")
        suite_scope.marks.update((uuid, uuid[:8]))
        host.podium("stop", uuid, check=None)
        host.gc()
        lines = settled(before, suite_scope, watched, cls.patience)
        host.end_all()
        return lines

    @pytest.mark.parametrize("kind", KINDS)
    def test_nothing_is_left(self, left: list[str], kind: str) -> None:
        """No mount, namespace, link, rule, control group, loop device, file or process of a pod that was collected."""
        lines = [line for line in left if _kind(line) == kind]
        assert not lines, "\n".join(lines)

    def test_no_descriptor_is_left(self, pods: Pods) -> None:
        """A worker that collects again and again has no more open files after the tenth time than after the second."""
        uuid = pods.exited()
        counts = [call["descriptors"] for call in pods.call("gc", uuid, "--times", "10")]
        assert None in counts or counts[-1] <= counts[1], f"open files after each call of gc: {counts}"

    def test_app_has_no_descriptor_of_podium_s(self, pods: Pods) -> None:
        """An app has its three streams, and nothing else that is open."""
        listed = pods.run("ls -l /proc/self/fd").stdout.splitlines()
        links = [line.rpartition(" -> ") for line in listed if " -> " in line]
        more = [f"{name.split()[-1]} is {target}" for name, _, target in links if int(name.split()[-1]) > 3]
        assert links and not more, "; ".join(more)

    def test_gc_after_a_kill_at_every_point(self, pods: Pods, suite_scope: Scope) -> None:
        """podium is killed at each step of a run, in whichever process: one gc later the host is as it was."""
        log = os.path.join(pods.folder, "points")
        podium, words = pods.podium, pods.words("run", "true")
        podium.using(podium.binary, PODIUM_TRACE_LOG=log)(*words)
        assert not pods.gc()
        watched = [f"{podium.dir}/{part}" for part in ("pods", "tmp")] + ["/run/podium", "/run/netns"]
        before = snapshot(watched)
        points = reached(log)
        os.unlink(log)
        for point in points:
            podium.using(podium.binary, PODIUM_TRACE_KILL=point)(*words, check=None)
            pods.let_end()
            failed = pods.gc()
            left = settled(before, suite_scope, watched, self.patience)
            assert not failed and not left, f"killed at {point}: {failed}\n" + "\n".join(left)
        assert points, "no trace point was reached"

    def test_gc_after_a_reboot(self, pods: Pods, suite_scope: Scope) -> None:
        """A pod whose machine went down: no process, mount, namespace or control group, and /run is empty."""
        uuid = pods.start("echo ready; exec sleep 1000")
        pods.logged(uuid, "ready")
        cleanup.clean_up(suite_scope, os.path.basename(pods.folder))
        for folder in ("/run/podium", "/run"):
            for name in os.listdir(folder) if os.path.isdir(folder) else ():
                if uuid in name:
                    cleanup.remove(os.path.join(folder, name))
        _of_another_boot(pods.path(uuid))
        failed = pods.gc()
        assert not failed, failed


def reached(log: str) -> list[str]:
    """The trace points that a log lists, each as PODIUM_TRACE_KILL names it: the Nth of a process."""
    points: dict[str, None] = {}
    seen: dict[tuple[str, str], int] = {}
    with open(log, encoding="utf-8") as f:
        for line in f:
            _, pid, point = line.rstrip("\n").split(" ", 2)
            seen[pid, point] = seen.get((pid, point), 0) + 1
            points[f"{point}#{seen[pid, point]}"] = None
    return list(points)


def _of_another_boot(folder: str) -> None:
    """Let the pod's processes be those of another boot: their pids are free, or other people's by now."""
    from podium.linux.procs import Process
    from podium.pods import status

    runtime = status.read_runtime(folder)
    assert runtime is not None

    def earlier(process: Process | None) -> Process | None:
        return process and process._replace(boot_id="00000000-0000-4000-8000-000000000000")

    changed = runtime._replace(supervisor=earlier(runtime.supervisor), leader=earlier(runtime.leader))
    status.write_runtime(folder, changed)
    names = os.path.join(folder, status.FOLDER)
    for name in os.listdir(names) if os.path.isdir(names) else ():
        app = status.read_app(folder, name.removesuffix(".json"))
        status.write_app(folder, app._replace(process=earlier(app.process)))
