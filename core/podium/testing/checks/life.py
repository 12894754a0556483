"""How pods run and end: exit codes, streams, signals, stop, gc again and again, time limits."""

from __future__ import annotations

import os
import signal
import tempfile
import time
from platform import machine
from socket import AF_UNIX, MSG_DONTWAIT, SOCK_DGRAM, socket
from subprocess import DEVNULL, PIPE
from typing import ClassVar

import pytest

from podium.testing import notifier
from podium.testing.pods import PATIENCE, Pods


class LifeChecks:
    """See the package."""

    plugin: ClassVar[str]
    limit: ClassVar[float]

    def test_exit_code_is_the_app_s(self, pods: Pods) -> None:
        """0, another, and that of a command that is not there."""
        pods.run("exit 0", check=0)
        pods.run("exit 7", check=7)
        missing = ("run", "--stage1", self.plugin, *pods.options, "box", "--exec", "/no/such")
        pods.podium(*missing, check=127)

    def test_streams_are_the_caller_s(self, pods: Pods) -> None:
        """Standard input, output and error, apart and unaltered."""
        done = pods.run("cat; echo err >&2", input="in\n", pod=("--interactive",))
        assert (done.stdout, done.stderr) == ("in\n", "err\n")

    def test_death_by_signal_is_128_and_more(self, pods: Pods) -> None:
        """An app that SIGKILL ended gives 137, and its status names the signal."""
        uuid = pods.prepare("kill -9 $$")
        pods.podium("run-prepared", uuid, check=137)
        assert pods.status(uuid)["apps"][0]["signal"] == "SIGKILL"

    def test_signals_reach_the_app(self, pods: Pods) -> None:
        """`podium kill` sends a signal to the app, which handles it and goes on."""
        uuid = pods.start("trap 'echo got it' USR1; trap 'exit 0' TERM; echo ready; while :; do sleep 0.05; done")
        pods.logged(uuid, "ready")
        pods.podium("kill", "--signal", "USR1", uuid)
        pods.logged(uuid, "got it")
        assert pods.status(uuid)["state"] == "running"

    def test_a_signal_reaches_one_app_alone(self, pods: Pods, claims: frozenset[str]) -> None:
        """`podium kill --app` sends it to that app, and no other."""
        if "apps" not in claims:
            pytest.skip("the plugin does not claim `apps`")
        command = "trap 'echo got it' USR1; trap 'exit 0' TERM; echo ready; while :; do sleep 0.05; done"
        of_app = ("--exec", "/bin/sh", "--", "-c", command)
        words = ("box", "--name", "a", *of_app, "---", "box", "--name", "b", *of_app)
        uuid = pods.podium.out("run", "--detach", "--stage1", self.plugin, *pods.options, *words)
        for name in ("a", "b"):
            pods.logged(uuid, "ready", name)
        pods.podium("kill", "--app", "b", "--signal", "USR1", uuid)
        pods.logged(uuid, "got it", "b")
        pods.podium("stop", uuid)  # so that what a was sent, it has handled
        assert "got it" not in pods.podium.out("logs", "--app", "a", uuid), "the app a got it, too"

    def test_stop_asks_before_it_kills(self, pods: Pods) -> None:
        """An app that handles SIGTERM ends as it wants to."""
        uuid = pods.start("trap 'exit 3' TERM; echo ready; while :; do sleep 0.05; done")
        pods.logged(uuid, "ready")
        pods.podium("stop", uuid)
        assert pods.status(uuid)["apps"][0]["exit_code"] == 3

    def test_a_pod_that_ran_for_a_while(self, pods: Pods) -> None:
        """Once its supervisor may have become a smaller process (`podium.types.LastingSandbox`), all is as before."""
        uuid = pods.start("trap 'echo told; exit 3' USR1; echo ready; while :; do sleep 0.05; done")
        time.sleep(2.5)
        os.kill(pods.status(uuid)["pid"], signal.SIGUSR1)  # which it hands on
        pods.podium("wait", uuid, check=None)
        assert pods.status(uuid)["apps"][0]["exit_code"] == 3
        assert "told" in pods.podium.out("logs", uuid)

    def test_stop_by_force_kills(self, pods: Pods) -> None:
        """An app that ignores SIGTERM is ended by --force."""
        uuid = pods.start("trap '' TERM; echo ready; while :; do sleep 0.05; done")
        pods.logged(uuid, "ready")
        pods.podium("stop", "--force", uuid)
        assert pods.status(uuid)["state"] == "exited"

    def test_stop_is_idempotent(self, pods: Pods) -> None:
        """Ten times, of a pod that has ended."""
        uuid = pods.exited()
        failed = [call["error"] for call in pods.call("stop", uuid, "--times", "10") if call["error"]]
        assert not failed, f"stop of a pod that has ended failed {len(failed)} times of 10: {failed[0]['message']}"

    def test_gc_is_idempotent(self, pods: Pods) -> None:
        """Ten times, then for good; the pod's folder is podium's to remove."""
        uuid = pods.exited()
        folder = pods.path(uuid)
        failed = [call["error"] for call in pods.call("gc", uuid, "--times", "10") if call["error"]]
        assert not failed, f"gc failed {len(failed)} times of 10: {failed[0]['message']}"
        assert os.path.exists(os.path.join(folder, "envelope.json")), "gc removed the pod's record, which is podium's"
        assert not pods.gc()

    def test_gc_of_a_pod_that_never_ran(self, pods: Pods) -> None:
        """Prepared, never run, collected."""
        pods.prepare("exit 11")
        failed = pods.gc()
        assert not failed, failed

    def test_hooks_return_in_time(self, pods: Pods) -> None:
        """prepare, gc and stop end within their limits; a hook that hangs is cut and fails."""
        uuid = pods.prepare("true")
        slow = [
            f"{hook}: {call['error']['message']}"
            for hook in ("prepare", "stop", "gc")
            for call in pods.call(hook, uuid)
            if call["error"] and call["error"]["reason"] == "plugin-timeout"
        ]
        assert not slow, "\n".join(slow)

    def test_notify(self, pods: Pods, claims: frozenset[str]) -> None:
        """The service manager is told that the pod is ready once the app has said so, not before."""
        if "notify" not in claims:
            pytest.skip("the plugin does not claim `notify`")
        if machine() != "x86_64":
            pytest.skip("what the app would tell it with is a program for x86-64")
        ready = "echo $NOTIFY_SOCKET; cat; /tmp/notify $NOTIFY_SOCKET READY=1; exec sleep 1000"
        with tempfile.TemporaryDirectory(dir=pods.folder) as folder, socket(AF_UNIX, SOCK_DGRAM) as manager:
            address = os.path.join(folder, "notify")
            manager.bind(address)
            told = pods.podium.using(pods.podium.binary, NOTIFY_SOCKET=address)
            words = pods.words("run", f"{notifier.placed('/tmp/notify')}; {ready}", ("--notify",))
            app = told.start(*words, stdin=PIPE, stderr=DEVNULL)
            assert app.stdin is not None and app.stdout is not None
            try:
                own = app.stdout.readline().strip()
                assert own.startswith("/"), "the app has no NOTIFY_SOCKET"
                with pytest.raises(BlockingIOError):
                    manager.recv(4096, MSG_DONTWAIT)
                app.stdin.close()
                app.stdin = None
                manager.settimeout(PATIENCE)
                assert b"READY=1" in manager.recv(4096).splitlines()
            finally:
                app.terminate()
                app.communicate()

    def test_several_apps(self, pods: Pods, claims: frozenset[str]) -> None:
        """Each app has a rootfs of its own; one that fails ends the pod with its code."""
        if "apps" not in claims:
            pytest.skip("the plugin does not claim `apps`")
        uuid = pods.podium.out(
            *("run", "--detach", "--stage1", self.plugin, *pods.options, "box", "--name", "a", "--exec", "/bin/sh"),
            *("--", "-c", "touch /own; echo ready; exec sleep 100", "---", "box", "--name", "b", "--exec", "/bin/sh"),
            *("--", "-c", "sleep 0.5; ls /own || echo alone; exit 5"),
        )
        pods.podium("wait", uuid, check=None)
        logged = pods.podium.out("logs", uuid)
        apps = {app["name"]: app for app in pods.status(uuid)["apps"]}
        assert "alone" in logged, f"the app b sees what the app a wrote into its rootfs:\n{logged}"
        assert apps["b"]["exit_code"] == 5 and apps["a"]["signal"] == "SIGTERM", apps
