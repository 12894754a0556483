"""Entering a pod under fly: a command beside the app, with the app's own restrictions (faults 38 and 40)."""

from __future__ import annotations

import os
import signal
import subprocess

import pytest

from support.fly import Fly, until
from support.stopped import stopped_at

FIELDS = (
    *("Uid", "Gid", "Groups", "CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs", "Seccomp"),
    *("Seccomp_filters", "SigBlk", "SigIgn"),
)


def _status(text: str) -> dict[str, str]:
    fields = dict(line.split(":\t", 1) for line in text.splitlines() if ":\t" in line)
    return {name: fields[name].strip() for name in FIELDS if name in fields}


def _read(pid: int, name: str) -> str:
    with open(f"/proc/{pid}/{name}", encoding="utf-8") as f:
        return f.read()


_RESTRICTIONS: dict[str, tuple[str, ...]] = {
    "nothing": (),
    "a user": ("--user", "app", "--supplementary-gids", "7"),
    "capabilities": ("--caps-retain", "CHOWN,KILL"),
    "capabilities and a user": ("--caps-remove", "CHOWN,KILL", "--user", "4711", "--group", "815"),
    "no new privileges": ("--no-new-privileges",),
    "seccomp": ("--seccomp", "mode=remove,errno=EPERM,reboot,mount"),
    "limits": ("--rlimit", "NOFILE=64:128", "--oom-score-adj", "300", "--memory", "128Mi", "--pids", "30"),
    "a read-only rootfs": ("--readonly-rootfs", "--working-dir", "/tmp"),
    "everything": (
        *("--user", "app", "--caps-retain", "CHOWN", "--no-new-privileges", "--readonly-rootfs"),
        *("--seccomp", "mode=remove,errno=EPERM,reboot", "--rlimit", "NOFILE=64:128", "--working-dir", "/home/app"),
    ),
}


@pytest.mark.parametrize("kind", _RESTRICTIONS)
def test_the_command_has_the_apps_own_restrictions(fly: Fly, kind: str) -> None:
    uuid = fly.start("exec sleep 1000", *_RESTRICTIONS[kind])
    pid = fly.app(uuid)["pid"]
    script = "cat /proc/self/status; for f in cgroup limits oom_score_adj; do echo == $f; cat /proc/self/$f; done"
    shown = fly.podium("enter", uuid, "--", "sh", "-c", script).stdout
    status, *files = shown.split("== ")
    assert _status(status) == _status(_read(pid, "status"))
    for part in files:
        name, _, content = part.partition("\n")
        assert content == _read(pid, name), name


def test_a_mightier_caller_has_no_more_capabilities(fly: Fly) -> None:
    drop = ["capsh", "--drop=cap_sys_time", "--", "-c", 'exec "$0" "$@"']
    for name, options in (("one", ()), ("two", ("--caps-remove", "CHOWN"))):
        argv = fly.podium.argv(*fly.argv("run", "exec sleep 1000", *options, pod=("-d", "--name", name)))
        subprocess.run([*drop, *argv], env=fly.podium.environment(), stdout=subprocess.DEVNULL, check=True)
        entered = _status(fly.podium("enter", name, "--", "cat", "/proc/self/status").stdout)
        assert entered == _status(_read(fly.app(name)["pid"], "status"))
        assert not int(entered["CapBnd"], 16) >> 25 & 1


def test_a_blocked_call_is_blocked_in_enter_too(fly: Fly) -> None:
    uuid = fly.start("exec sleep 1000", "--seccomp", "mode=remove,errno=ENOSPC,mkdir,mkdirat")
    assert "No space left" in fly.podium("enter", uuid, "--", "mkdir", "/x", check=1).stderr


def test_a_read_only_rootfs_is_read_only_in_enter_too(fly: Fly) -> None:
    uuid = fly.start("exec sleep 1000", "--readonly-rootfs")
    assert "Read-only" in fly.podium("enter", uuid, "--", "touch", "/x", check=1).stderr


def test_the_environment_is_the_apps(fly: Fly) -> None:
    uuid = fly.start("exec sleep 1000", "--environment", "A=of the app")
    fly.podium = fly.podium.using(fly.podium.binary, SECRET="x")
    shown = fly.podium.out("enter", uuid, "--", "env").splitlines()
    assert "A=of the app" in shown and "AC_APP_NAME=box" in shown
    assert {line.partition("=")[0] for line in shown} <= {"A", "AC_APP_NAME", "HOME", "PATH", "PWD", "SHLVL"}


@pytest.mark.parametrize("code", [0, 7, 125, 255])
def test_exit_code_and_separate_streams(fly: Fly, code: int) -> None:
    uuid = fly.start("exec sleep 1000")
    script = f"cat; echo out; echo err >&2; exit {code}"
    done = fly.podium("enter", uuid, "--", "sh", "-c", script, check=code, input="in\n")
    assert (done.stdout, done.stderr) == ("in\nout\n", "err\n")


def test_commands_that_end_by_signal_or_cannot_be_started(fly: Fly) -> None:
    uuid = fly.start("exec sleep 1000")
    fly.podium("enter", uuid, "--", "sh", "-c", "kill -9 $$", check=137)
    assert "'nosuch' was not found" in fly.podium("enter", uuid, "nosuch", check=127).stderr
    assert "can't be executed" in fly.podium("enter", uuid, "--", "/etc/passwd", check=126).stderr
    assert fly.app(uuid)["state"] == "running"


def test_without_a_command_a_shell_reads_commands(fly: Fly) -> None:
    uuid = fly.start("exec sleep 1000")
    assert fly.podium("enter", uuid, input="echo from the shell; exit 3\n", check=3).stdout == "from the shell\n"


def test_signals_reach_the_command(fly: Fly) -> None:
    uuid = fly.start("exec sleep 1000")
    script = "trap 'echo caught; exit 9' TERM; echo ready; while :; do sleep 0.02; done"
    client = fly.podium.start("enter", uuid, "--", "sh", "-c", script)
    assert client.stdout is not None
    assert client.stdout.readline() == "ready\n"
    client.terminate()
    assert client.communicate(timeout=20) == ("caught\n", "")
    assert client.returncode == 9


def test_what_was_entered_ends_with_the_pod(either: Fly) -> None:
    """It is killed, and told why; one that is killed by itself is told nothing."""
    uuid = either.start("exec sleep 1000")
    client = either.podium.start("enter", uuid, "--", "sh", "-c", "echo ready; exec sleep 1000")
    assert client.stdout is not None
    assert client.stdout.readline() == "ready\n"
    assert either.podium("enter", uuid, "--", "sh", "-c", "kill -9 $$", check=137).stderr == ""
    either.podium("stop", uuid)
    told = f"podium: the command was killed, since app 'box' of pod {uuid} has ended\n"
    assert client.communicate(timeout=20) == ("", told) and client.returncode == 137


def test_the_app_ends_before_the_command_has_begun(either: Fly) -> None:
    uuid = either.start("exec sleep 1000")
    client = stopped_at(either.podium, "enter:looked", "enter", uuid, "--", "true")
    either.podium("stop", uuid)
    client.send_signal(signal.SIGCONT)
    out, err = client.communicate(timeout=20)
    assert (client.returncode, out) == (125, "") and err.startswith(f"podium: app 'box' of pod {uuid} has ended\n")


def test_the_pod_is_marked_before_its_records_are_read(fly: Fly) -> None:
    uuid = fly.start("exec sleep 1000")
    client = stopped_at(fly.podium, "enter:running", "enter", uuid, "--", "true")
    fly.podium("stop", uuid)
    fly.podium("gc", "--grace-period", "1h")
    client.send_signal(signal.SIGCONT)
    out, err = client.communicate(timeout=20)
    assert (client.returncode, out, err) == (125, "", f"podium: pod {uuid} has ended\n")


def test_a_killed_client_leaves_no_command_behind(fly: Fly) -> None:
    uuid = fly.start("exec sleep 1000")
    client = fly.podium.start("enter", uuid, "--", "sh", "-c", "echo $$; exec sleep 1000")
    assert client.stdout is not None
    pid = int(client.stdout.readline())
    client.kill()
    client.communicate(timeout=20)
    until(lambda: not os.path.exists(f"/proc/{pid}"), "the command has ended")
    assert fly.app(uuid)["state"] == "running"


def test_only_what_runs_can_be_entered(fly: Fly) -> None:
    uuid = fly.prepare("exit 3")
    assert "prepared" in fly.podium("enter", uuid, "--", "true", check=125).stderr
    fly.podium("run-prepared", uuid, check=3)
    assert "exited" in fly.podium("enter", uuid, "--", "true", check=125).stderr
    uuid = fly.start("exec sleep 1000")
    assert "'nosuch'" in fly.podium("enter", "--app", "nosuch", uuid, "--", "true", check=125).stderr
