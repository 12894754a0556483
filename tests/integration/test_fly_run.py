"""Running pods under fly: output, exit codes, streams, signals, logs, and the records that are kept."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import tarfile
import time

import pytest

from support.fly import Fly, until
from support.stopped import stopped_at


@pytest.mark.parametrize("code", [0, 1, 7, 125, 126, 127, 255])
def test_the_exit_code_is_the_apps(fly: Fly, code: int) -> None:
    assert fly.run(f"echo out; exit {code}", check=code).stdout == "out\n"


@pytest.mark.parametrize(("name", "code"), [("KILL", 137), ("TERM", 143), ("SEGV", 139), ("USR1", 138)])
def test_a_death_by_signal_is_told_apart(fly: Fly, name: str, code: int) -> None:
    fly.podium(*fly.argv("run", f"kill -{name} $$", pod=("--name", "x")), check=code)
    app = fly.app("x")
    assert (app["state"], app["exit_code"], app["signal"]) == ("exited", code, f"SIG{name}")
    assert fly.podium.out("wait", "x").split()[1] == str(code)


def test_an_exit_code_above_128_is_no_signal(fly: Fly) -> None:
    fly.podium(*fly.argv("run", "exit 137", pod=("--name", "x")), check=137)
    assert (fly.app("x")["exit_code"], fly.app("x")["signal"]) == (137, None)


@pytest.mark.parametrize(
    ("exec", "code", "message"),
    [
        ("/no/such", 127, "command '/no/such' was not found"),
        ("nosuch", 127, "command 'nosuch' was not found"),
        ("/etc/passwd", 126, "command '/etc/passwd' can't be executed"),
        ("/etc", 126, "command '/etc' can't be executed"),
    ],
)
def test_a_command_that_cannot_be_started(fly: Fly, exec: str, code: int, message: str) -> None:
    done = fly.podium("run", "--stage1", "fly", "--name", "x", "box", "--exec", exec, check=code)
    assert message in done.stderr and done.stdout == ""
    assert (fly.app("x")["state"], fly.app("x")["exit_code"]) == ("exited", code)
    assert message in fly.app("x")["message"]
    detached = fly.podium("run", "-d", "--stage1", "fly", "box", "--exec", exec, check=code)
    assert message in detached.stderr and detached.stdout == ""


def test_a_command_without_a_slash_is_looked_up_in_the_apps_own_path(fly: Fly) -> None:
    found = fly.podium("run", "--rm", "--stage1", "fly", "box", "--exec", "echo", "--", "found")
    assert found.stdout == "found\n"
    hidden = ("--environment", "PATH=/nowhere")
    fly.podium("run", "--rm", "--stage1", "fly", "box", "--exec", "echo", *hidden, check=127)


def test_stdin_reaches_the_app_and_stderr_is_kept_apart(fly: Fly) -> None:
    done = fly.run("cat; echo err >&2", pod=("-i",), input="in\n" * 50_000)
    assert done.stdout == "in\n" * 50_000 and done.stderr == "err\n"
    assert fly.run("cat", input="without -i\n").stdout == "without -i\n"
    assert fly.run("cat", "--stdin", "null", input="unread\n").stdout == ""


def test_streams_can_be_sent_nowhere_or_to_the_log(fly: Fly) -> None:
    command = fly.argv("run", "echo out; echo err >&2", "--stdout", "log", "--stderr", "null", pod=("--name", "x"))
    done = fly.podium(*command)
    assert (done.stdout, done.stderr) == ("", "")
    assert fly.podium.out("logs", "x") == "out"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2])
def test_signals_to_a_foreground_podium_reach_the_app(fly: Fly, number: signal.Signals) -> None:
    name = number.name.removeprefix("SIG")
    script = f"trap 'echo got {name}; exit 9' {name}; echo ready; while :; do sleep 0.02; done"
    client = fly.podium.start(*fly.argv("run", script, pod=("--rm",)))
    assert client.stdout is not None
    assert client.stdout.readline() == "ready\n"
    client.send_signal(number)
    assert client.communicate(timeout=20) == (f"got {name}\n", "")
    assert client.returncode == 9


def test_a_killed_client_takes_its_pod_with_it(fly: Fly) -> None:
    client = fly.podium.start(*fly.argv("run", "echo ready; exec sleep 1000", pod=("--name", "x")))
    assert client.stdout is not None
    assert client.stdout.readline() == "ready\n"
    client.kill()
    client.communicate(timeout=20)
    assert fly.ended("x")["signal"] == "SIGTERM"
    assert fly.status("x")["state"] == "exited"


def test_a_killed_supervisor_takes_its_app_with_it(fly: Fly) -> None:
    uuid = fly.start("exec sleep 1000")
    pid = fly.app(uuid)["pid"]
    os.kill(fly.status(uuid)["pid"], signal.SIGKILL)
    until(lambda: not os.path.exists(f"/proc/{pid}"), "the app has ended")
    until(lambda: fly.status(uuid)["state"] == "exited", "the pod has ended")
    assert fly.app(uuid)["state"] == "lost"
    assert fly.podium.json("gc", "--grace-period", "0s")["collected"] == [uuid]


def test_what_outlives_a_killed_supervisor_is_shown_and_can_be_stopped(fly: Fly) -> None:
    uuid = fly.start("sleep 1000 & echo ready; wait")
    fly.logged(uuid, "ready")
    os.kill(fly.status(uuid)["pid"], signal.SIGKILL)
    until(lambda: fly.status(uuid)["problem"], "the pod has a problem")
    status = fly.status(uuid)
    assert (status["state"], status["problem"]["reason"]) == ("running", "held")
    fly.podium("stop", uuid)
    assert fly.status(uuid)["state"] == "exited"
    assert fly.podium.json("gc", "--grace-period", "0s")["collected"] == [uuid]


def test_detach_prints_the_uuid_once_the_app_was_started(fly: Fly) -> None:
    done = subprocess.run(
        fly.podium.argv(*fly.argv("run", "echo out; exec sleep 1000", pod=("-d",))),
        env=fly.podium.environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,  # read until its end: the supervisor must not hold it
        timeout=30,
        check=True,
        text=True,
    )
    uuid = done.stdout.strip()
    assert re.fullmatch("[0-9a-f-]{36}", uuid) and done.stderr == ""
    assert fly.app(uuid)["state"] == "running"
    held = {os.readlink(f"/proc/{fly.status(uuid)['pid']}/fd/{fd}") for fd in (0, 1, 2)}
    assert not any(name.startswith("pipe:") for name in held)


def test_open_files_of_the_caller_never_reach_the_app(fly: Fly) -> None:
    read_end, write_end = os.pipe()
    try:
        for command in (
            fly.argv("run", "ls /proc/$$/fd; true", pod=("--rm",)),
            fly.argv("run", "sleep 1000", pod=("-d", "--name", "x")),
        ):
            client = fly.podium.start(*command, pass_fds=(read_end, write_end))
            out, _ = client.communicate(timeout=30)
            if "-d" not in command:
                assert out.split()[-3:] == ["0", "1", "2"]
        entered = fly.podium.start(
            *("enter", "x", "--", "sh", "-c", "ls /proc/$$/fd; true"), pass_fds=(read_end, write_end)
        )
        assert entered.communicate(timeout=30)[0].split() == ["0", "1", "2"]
        pid = fly.app("x")["pid"]
        assert sorted(os.listdir(f"/proc/{pid}/fd")) == ["0", "1", "2"]
        os.close(write_end)
        write_end = -1
        os.set_blocking(read_end, False)
        assert os.read(read_end, 1) == b"", "the supervisor holds a descriptor of its caller"
    finally:
        os.close(read_end)
        if write_end >= 0:
            os.close(write_end)


def test_the_app_starts_with_clean_signals_and_umask(fly: Fly) -> None:
    def ignore() -> None:
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)
        signal.signal(signal.SIGPIPE, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        os.umask(0o077)

    command = fly.argv("run", "grep ^Sig /proc/self/status; umask", pod=("--rm",))
    client = fly.podium.start(*command, preexec_fn=ignore)
    out, err = client.communicate(timeout=30)
    assert client.returncode == 0, err
    values = dict(line.split(":\t") for line in out.splitlines() if ":" in line)
    assert {k: int(values[k], 16) for k in ("SigBlk", "SigIgn", "SigCgt")} == {"SigBlk": 0, "SigIgn": 0, "SigCgt": 0}
    assert out.splitlines()[-1] == "0022"


def test_logs_of_both_streams(fly: Fly) -> None:
    uuid = fly.start("echo one; echo two >&2; echo three; printf end", pod=("--name", "x"))
    fly.ended(uuid)
    assert sorted(fly.podium.out("logs", "x").splitlines()) == ["end", "one", "three", "two"]
    assert len(fly.podium.out("logs", "--tail", "2", uuid).splitlines()) == 2
    assert fly.podium.out("logs", "--tail", "0", uuid) == ""
    assert fly.podium("logs", "--app", "nosuch", uuid, check=3).stdout == ""
    with open(os.path.join(fly.folder(uuid), "logs", "box"), encoding="utf-8") as f:
        lines = f.read().splitlines()
    assert len(lines) == 4
    for line in lines:
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z (stdout|stderr) F (one|two|three|end)", line)
    assert [line.split(" ")[1] for line in lines if line.endswith("two")] == ["stderr"]


def test_a_long_line_is_logged_in_parts_and_shown_as_one(fly: Fly) -> None:
    uuid = fly.start("head -c 50000 /dev/zero | tr '\\0' x; echo; echo after")
    fly.ended(uuid)
    assert fly.podium.out("logs", uuid) == "x" * 50_000 + "\nafter"
    with open(os.path.join(fly.folder(uuid), "logs", "box"), encoding="utf-8") as f:
        tags = [line.split(" ")[2] for line in f]
    assert tags.count("P") >= 3 and tags[-2:] == ["F", "F"]


def test_follow_ends_with_the_pod(fly: Fly) -> None:
    uuid = fly.start("echo first; while [ ! -e /go ]; do sleep 0.02; done; echo last")
    follower = fly.podium.start("logs", "--follow", uuid)
    assert follower.stdout is not None
    assert follower.stdout.readline() == "first\n"
    fly.podium("enter", uuid, "--", "touch", "/go")
    assert follower.communicate(timeout=20) == ("last\n", "")
    assert follower.returncode == 0
    assert fly.podium.out("logs", "--follow", uuid).splitlines() == ["first", "last"]


def test_binary_output_is_logged_byte_for_byte(fly: Fly) -> None:
    uuid = fly.start(r"printf '\377\000\033[31m\n'")
    fly.ended(uuid)
    with open(os.path.join(fly.folder(uuid), "logs", "box"), "rb") as f:
        assert f.read().split(b" ", 3)[3] == b"\xff\x00\x1b[31m\n"


def test_run_prepared_only_once(fly: Fly) -> None:
    uuid = fly.prepare("echo out; exit 7", pod=("--name", "x"))
    assert fly.status(uuid)["state"] == "prepared"
    assert fly.podium("run-prepared", "x", check=7).stdout == "out\n"
    assert "not prepared" in fly.podium("run-prepared", "x", check=125).stderr


def test_of_two_that_run_one_pod_at_once_one_wins(fly: Fly) -> None:
    uuid = fly.prepare("echo out; exit 7")
    both = [fly.podium.start("run-prepared", uuid) for _ in range(2)]
    outputs = sorted((p.communicate(timeout=30)[0], p.returncode) for p in both)
    assert outputs == [("", 125), ("out\n", 7)]


def test_names_are_unique_and_labels_are_listed(fly: Fly) -> None:
    uuid = fly.prepare("true", pod=("--name", "web", "--label", "tier=front", "--label", "x=y=z"))
    assert fly.podium.pods()[uuid]["labels"] == {"tier": "front", "x": "y=z"}
    assert "web" in fly.podium(*fly.argv("prepare", "true", pod=("--name", "web")), check=4).stderr
    assert "Web!" in fly.podium(*fly.argv("prepare", "true", pod=("--name", "Web!")), check=2).stderr
    assert list(fly.podium.pods()) == [uuid]


def test_uuid_file(fly: Fly) -> None:
    path = os.path.join(fly.dir, "uuid")
    uuid = fly.start("exec sleep 1000", pod=("--uuid-file-save", path))
    with open(path, encoding="ascii") as f:
        assert f.read().strip() == uuid
    fly.podium("stop", "--uuid-file", path)
    assert fly.podium.json("status", "--uuid-file", path)["pod"]["state"] == "exited"
    fly.podium("rm", "--uuid-file", path)
    fly.podium("status", "--uuid-file", path, check=3)


def test_export_has_what_the_app_wrote_and_lacks_what_it_removed(fly: Fly) -> None:
    uuid = fly.start("echo wrote > /srv-file; rm /etc/hostname; mkdir -m 700 /d; ln -s /x /d/link; chown 5:6 /d")
    fly.ended(uuid)
    path = os.path.join(fly.dir, "out.tar")
    fly.podium("export", uuid, path)
    with tarfile.open(path) as tar:
        names = {os.path.normpath(m.name): m for m in tar}
        wrote = tar.extractfile(names["srv-file"])
        assert wrote is not None and wrote.read() == b"wrote\n"
    assert "etc/hostname" not in names and "bin/busybox" in names
    assert (names["d"].mode, names["d"].uid, names["d"].gid, names["d/link"].linkname) == (0o700, 5, 6, "/x")
    assert "exists" in fly.podium("export", uuid, path, check=2).stderr


def test_export_of_a_running_pod_is_refused(fly: Fly) -> None:
    uuid = fly.start("exec sleep 1000")
    path = os.path.join(fly.dir, "out.tar")
    assert "running" in fly.podium("export", uuid, path, check=4).stderr
    assert not os.path.exists(path)


def test_no_gc_takes_a_pod_that_is_being_exported(fly: Fly) -> None:
    uuid = fly.start("echo wrote > /srv-file")
    fly.ended(uuid)
    path = os.path.join(fly.dir, "out.tar")
    export = stopped_at(fly.podium, "export:kept", "export", uuid, path)
    assert fly.podium.json("gc", "--grace-period", "0s")["collected"] == []
    assert fly.podium.pods()[uuid]["state"] == "exited"
    rm = fly.podium.start("rm", uuid)
    time.sleep(1)
    assert rm.poll() is None  # it waits
    export.send_signal(signal.SIGCONT)
    assert export.communicate(timeout=20) == ("", "") and export.returncode == 0
    with tarfile.open(path) as tar:
        assert "./srv-file" in tar.getnames()
    assert rm.communicate(timeout=20) == (f"{uuid}\n", "") and rm.returncode == 0
    assert not fly.podium.pods()


def test_a_pod_that_runs_is_not_prepared(fly: Fly) -> None:
    uuid = fly.start("exec sleep 1000")
    assert f"pod {uuid} is not prepared but running" in fly.podium("run-prepared", uuid, check=125).stderr


def test_cat_manifest_and_inspect(fly: Fly) -> None:
    uuid = fly.prepare("true", "--memory", "64M", pod=("--annotation", "a=b"))
    manifest = json.loads(fly.podium("cat-manifest", uuid).stdout)
    assert manifest["acKind"] == "PodManifest" and manifest["userAnnotations"] == {"a": "b"}
    assert manifest["apps"][0]["app"]["exec"] == ["/bin/sh", "-c", "true"]
    inspected = fly.podium.json("inspect", uuid)
    assert inspected["envelope"]["uuid"] == uuid
    assert inspected["envelope"]["stage1"]["name"] == "fly"


def test_a_pod_manifest_can_be_given(fly: Fly) -> None:
    fly.run("true")
    uuid = fly.prepare("echo from the manifest; exit 3")
    path = os.path.join(fly.dir, "pod.json")
    with open(path, "w", encoding="utf-8") as f:
        f.write(fly.podium("cat-manifest", uuid).stdout)
    done = fly.podium("run", "--rm", "--stage1", "fly", "--pod-manifest", path, check=3)
    assert done.stdout == "from the manifest\n"
    options = ("--net", "none", "--pod-manifest", path)
    assert "network:none" in fly.podium("prepare", "--stage1", "fly", *options, check=2).stderr
    options = ("--label", "a=b", "--set-env", "A=1", "--pod-manifest", path)
    assert "--set-env, --label" in fly.podium("prepare", "--stage1", "fly", *options, check=2).stderr


def _with_isolators(fly: Fly, command: str, isolators: list[dict[str, object]]) -> str:
    manifest = json.loads(fly.podium(*fly.argv("run", command, pod=("--dry-run",))).stdout)
    path = os.path.join(fly.dir, "pod.json")
    with open(path, "w", encoding="utf-8") as f:
        json.dump({**manifest, "isolators": isolators}, f)
    return path


def test_isolators_of_the_whole_pod(fly: Fly) -> None:
    path = _with_isolators(fly, "exec tail /dev/zero", [{"name": "resource/memory", "value": {"limit": "64Mi"}}])
    done = fly.podium("run", "--rm", "--stage1", "fly", "--pod-manifest", path, check=137)
    assert "memory" in done.stderr
    isolator = {"name": "os/linux/no-new-privileges", "value": True}
    path = _with_isolators(fly, "true", [isolator])
    done = fly.podium("prepare", "--stage1", "fly", "--pod-manifest", path, check=2)
    assert "pod-isolator:no-new-privileges" in done.stderr


def test_the_exit_code_of_instant_pods_is_always_right(fly: Fly) -> None:
    """Fault 42."""
    for number in range(60):
        code = number % 3 * 7
        fly.run(f"exit {code}", check=code)
    assert not fly.podium.pods()
