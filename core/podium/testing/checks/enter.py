"""`enter`: beside an app, and never with more rights than the app has."""

from __future__ import annotations

import os
import pty
import subprocess
from typing import ClassVar

import pytest

from podium.testing.pods import Pods

_FIELDS = ("Uid", "Gid", "Groups", "CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs", "Seccomp")
_ASKED = {
    "isolator:capabilities": ("--caps-retain", "CAP_NET_RAW"),
    "isolator:no-new-privileges": ("--no-new-privileges",),
}


def _restrictions(status: str) -> dict[str, list[str]]:
    """What confines a process, out of proc(5)'s status."""
    lines = (line.rpartition(": ")[2] if ": Uid" in line else line for line in status.splitlines())
    return {key: value.split() for key, _, value in (line.partition(":") for line in lines) if key in _FIELDS}


class EnterChecks:
    """See the package."""

    plugin: ClassVar[str]

    def test_enter_runs_beside_the_app(self, pods: Pods, claims: frozenset[str]) -> None:
        """A command sees the app's rootfs and environment; its streams and exit code are its own."""
        if "enter" not in claims:
            pytest.skip("the plugin does not claim `enter`")
        uuid = pods.start("echo mine > /own; echo ready; exec sleep 100", "--environment", "SEEN=yes")
        pods.logged(uuid, "ready")
        done = pods.podium("enter", uuid, "--", "/bin/sh", "-c", "cat /own; echo $SEEN; echo err >&2; exit 9", check=9)
        assert (done.stdout, done.stderr) == ("mine\nyes\n", "err\n")

    def test_enter_has_the_app_s_restrictions(self, pods: Pods, claims: frozenset[str]) -> None:
        """User, groups, capabilities, no_new_privs and seccomp are those of the app."""
        if "enter" not in claims:
            pytest.skip("the plugin does not claim `enter`")
        words = [word for name, option in _ASKED.items() if name in claims for word in option]
        uuid = pods.start("cat /proc/self/status; echo ready; exec sleep 100", "--user", "app", *words)
        app = _restrictions(pods.logged(uuid, "ready"))
        entered = _restrictions(pods.podium.out("enter", uuid, "--", "/bin/cat", "/proc/self/status"))
        assert app["Uid"][0] == "1000", app
        assert entered == app, f"entered with {entered}, the app has {app}"

    def test_enter_ends_with_the_app(self, pods: Pods, claims: frozenset[str]) -> None:
        """A command that still runs when the app ends is killed, which its exit code says, and podium."""
        if "enter" not in claims:
            pytest.skip("the plugin does not claim `enter`")
        uuid = pods.start("echo ready; until test -e /end; do sleep 0.05; done")
        pods.logged(uuid, "ready")
        command = "echo inside; touch /end; exec sleep 100"
        with pods.podium.start("enter", uuid, "--", "/bin/sh", "-c", command) as entered:
            assert entered.stdout is not None
            assert entered.stdout.readline() == "inside\n"
            said = entered.communicate()[1]
        assert entered.returncode == 137, f"it exited {entered.returncode}: {said}"
        assert "has ended" in said, said

    def test_enter_gives_a_terminal(self, pods: Pods, claims: frozenset[str]) -> None:
        """With --tty, the command is on a terminal."""
        if not {"enter", "tty"} <= claims:
            pytest.skip("the plugin does not claim `enter` and `tty`")
        uuid = pods.start("echo ready; exec sleep 100")
        pods.logged(uuid, "ready")
        ours, theirs = pty.openpty()
        try:
            entered = pods.podium.start(
                *("enter", "--tty", uuid, "--", "/bin/sh", "-c", "test -t 0 -a -t 1 && exit 42; exit 1"),
                stdin=theirs,
                stdout=theirs,
                stderr=subprocess.DEVNULL,
            )
            code = entered.wait(60)
        finally:
            os.close(ours)
            os.close(theirs)
        assert code == 42, f"the command was not on a terminal: it exited {code}"

    def test_enter_is_refused_if_not_claimed(self, pods: Pods, claims: frozenset[str]) -> None:
        """A plugin without `enter` raises CapabilityUnsupported."""
        if "enter" in claims:
            pytest.skip("the plugin claims `enter`")
        uuid = pods.start("echo ready; exec sleep 100")
        pods.logged(uuid, "ready")
        done = pods.podium("stage1", "call", self.plugin, "enter", uuid, "--format", "json", check=None)
        assert "capability-unsupported" in done.stdout + done.stderr, (
            f"enter is not claimed, yet it was not refused: exited {done.returncode}\n{done.stdout}{done.stderr}"
        )
