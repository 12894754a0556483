"""A supervisor that has waited for a while becomes a small process; what it does for its pod stays the same."""

from __future__ import annotations

import glob
import os
import signal
import socket
import subprocess
import termios
from collections.abc import Callable, Iterator

import pytest

from podium.linux import cgroup
from support import damage
from support.command import Podium
from support.distributions import Venv
from support.fly import IMAGE, Fly, until
from support.rest import BUDGET, at_rest, first_app, held, rested, supervisor
from support.sample import sample_code
from support.terminal import Screen

# Says what it is told, once a signal has come, too; ends with 7 when it is asked to.
LISTENS = "trap 'echo told' USR1; trap 'echo bye; exit 7' TERM; echo ready; while :; do sleep 0.05; done"
ENDS = "until [ -e /go ]; do sleep 0.05; done; {}"


def _go(fly: Fly, uuid: str) -> None:
    """What the app waits for. It may end the pod before `enter` has ended."""
    fly.podium("enter", uuid, "--", "touch", "/go", check=None)


def test_the_life_of_a_pod_at_rest(either: Fly) -> None:
    """Log, signal, enter, rest again, stop: by the same process, which holds little."""
    uuid = either.start(LISTENS)
    before = either.app(uuid)
    pid = rested(either.podium, uuid)
    assert held(pid) <= BUDGET
    assert either.app(uuid) == before and either.status(uuid)["state"] == "running"
    either.podium("kill", "--signal", "USR1", uuid)
    either.logged(uuid, "told")
    os.kill(pid, signal.SIGUSR1)  # to the supervisor, which hands it on
    until(lambda: either.podium.out("logs", uuid).count("told") == 2, "it was handed on")
    assert not at_rest(pid)
    assert rested(either.podium, uuid) == pid
    assert either.podium("enter", uuid, "--", "sh", "-c", "echo in; exit 4", check=4).stdout == "in\n"
    either.podium("stop", uuid)
    assert first_app(either.podium, uuid) == {
        "state": "exited",
        "exit_code": 7,
        "signal": None,
        "restarts": 0,
        "message": None,
    }
    assert either.podium.out("logs", uuid).splitlines() == ["ready", "told", "told", "bye"]
    assert either.podium.json("gc", "--grace-period", "0s")["collected"] == [uuid]


def test_a_log_goes_on_while_it_rests(either: Fly) -> None:
    uuid = either.start("i=0; while :; do i=$((i+1)); printf '%s-\\n' $i; printf '<%s>' $i; sleep 0.1; done")
    pid = rested(either.podium, uuid)
    last = int(either.podium.out("logs", uuid).rpartition("-")[0].rpartition(">")[2])
    either.logged(uuid, f"<{last + 4}>{last + 5}-\n")
    assert at_rest(pid)
    either.podium("stop", "--force", uuid)
    lines = either.podium.out("logs", uuid).splitlines()
    assert lines[: last + 5] == ["1-", *(f"<{n - 1}>{n}-" for n in range(2, last + 6))]


def test_an_app_that_ends_is_started_again(either: Fly) -> None:
    """It is at rest both times."""
    script = f"echo x >> /count; {ENDS.format('rm /go; exit $(wc -l < /count)')}"
    uuid = either.start(script, "--restart", "on-failure")
    pid = rested(either.podium, uuid)
    _go(either, uuid)
    until(lambda: either.app(uuid)["restarts"] == 1 and either.app(uuid)["state"] == "running", "it runs again")
    assert rested(either.podium, uuid) == pid
    either.podium("stop", uuid)
    assert (either.app(uuid)["signal"], either.app(uuid)["restarts"]) == ("SIGTERM", 1)


def test_event_handlers_of_an_app_that_ends(either: Fly) -> None:
    handler = ["/bin/sh", "-c", "echo after; exit 9"]
    name = either.image(*("with-handler", None, either.rootfs), eventHandlers=[{"name": "post-stop", "exec": handler}])
    uuid = either.start(ENDS.format("echo before; exit 3"), image=name)
    rested(either.podium, uuid)
    _go(either, uuid)
    assert either.ended(uuid)["exit_code"] == 3
    assert either.podium.out("logs", uuid).splitlines() == ["before", "after"]


def test_the_first_that_fails_ends_the_pod(fly: Fly) -> None:
    """Of three apps one has ended before the rest, one fails after it."""
    uuid = fly.podium.out(
        *("run", "--detach", "--net", "none", IMAGE, "--name", "a", "--", "-c", "echo short"),
        *("---", IMAGE, "--name", "b", "--", "-c", ENDS.format("exit 5")),
        *("---", IMAGE, "--name", "c", "--", "-c", LISTENS),
    )
    rested(fly.podium, uuid)
    fly.podium("enter", "--app", "b", uuid, "--", "touch", "/go", check=None)
    fly.podium("wait", uuid, check=None)
    status = fly.status(uuid)
    assert {app["name"]: app["exit_code"] for app in status["apps"]} == {"a": 0, "b": 5, "c": 7}
    assert "c: bye" in fly.podium.out("logs", uuid)


def test_a_killed_one_takes_its_pod_along(either: Fly) -> None:
    uuid = either.start(f"sleep 1000 & {LISTENS}")
    pid, path = rested(either.podium, uuid), either.status(uuid)["cgroup"]
    os.kill(pid, signal.SIGKILL)
    either.podium("rm", "--force", uuid)
    assert not cgroup.populated(path) and not either.podium.pods()


def test_the_foreground(either: Fly) -> None:
    """Streams, signals and exit code pass; the pod ends with the podium that waits for it."""
    words = either.argv("run", f"echo err >&2; read line; echo $line; {LISTENS}", pod=("--interactive", "--rm"))
    process = either.podium.start(*words, stdin=subprocess.PIPE)
    assert process.stdin is not None
    until(either.podium.pods, "the pod is there")
    (uuid,) = either.podium.pods()
    until(lambda: either.status(uuid)["pid"], "it runs")
    rested(either.podium, uuid)
    process.stdin.write("through\n")
    process.stdin.flush()
    assert process.stdout is not None
    assert [process.stdout.readline() for _ in range(2)] == ["through\n", "ready\n"]
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=30)
    assert (process.returncode, out, err) == (7, "bye\n", "err\n")
    assert not either.podium.pods()

    process = either.podium.start(*either.argv("run", LISTENS))
    until(either.podium.pods, "the pod is there")
    (uuid,) = either.podium.pods()
    until(lambda: either.status(uuid)["pid"], "it runs")
    rested(either.podium, uuid)
    process.kill()
    process.communicate(timeout=30)
    assert either.ended(uuid)["exit_code"] == 7


def test_a_terminal(fly: Fly) -> None:
    """Keys, output and window size go through a supervisor at rest, and its terminal gets its settings back."""
    script = "trap 'stty size' WINCH; echo ready; "
    script += 'while :; do read line && echo "<$line>" && [ "$line" = end ] && exit 5; done'
    screen = Screen(fly.podium.argv(*fly.argv("run", script, pod=("--tty",))), fly.podium.environment())
    try:
        screen.until("ready")
        (uuid,) = fly.podium.pods()
        pid = rested(fly.podium, uuid)
        screen.send("some keys\n")
        screen.until("<some keys>")
        screen.resize(33, 99)
        screen.until("33 99")
        assert at_rest(pid)
        screen.send("end\n")
        assert screen.end() == 5
        assert termios.tcgetattr(screen.slave) == screen.settings
    finally:
        screen.close()


def test_ports_and_networks_are_held_and_given_back(fly: Fly) -> None:
    with socket.socket() as free:
        free.bind(("0.0.0.0", 0))
        port = free.getsockname()[1]
    image = fly.image("web", None, fly.rootfs, ports=[{"name": "http", "protocol": "tcp", "port": 80}])
    words = ("--private-users", "--port", f"http:{port}", image, "--", "-c")
    uuid = fly.podium.out("run", "--detach", *words, LISTENS)
    rested(fly.podium, uuid)
    assert f"is taken by pod {uuid}" in fly.podium("run", *words, "true", check=125).stderr
    fly.podium("stop", uuid)
    assert first_app(fly.podium, uuid)["exit_code"] == 7
    assert fly.status(uuid)["networks"] == []
    fly.podium("run", *words, "true")


def test_a_detached_pod_is_removed_at_its_end(fly: Fly) -> None:
    uuid = fly.start(ENDS.format("exit 3"), pod=("--rm",))
    rested(fly.podium, uuid)
    _go(fly, uuid)
    until(lambda: not fly.podium.pods(), "it was removed")


@pytest.mark.parametrize("kind", ["NULs", "a folder", "missing"])
def test_files_of_the_pod_that_were_damaged_meanwhile(fly: Fly, kind: str) -> None:
    """What the supervisor has to know it took along."""
    uuid = fly.start(LISTENS)
    pid = rested(fly.podium, uuid)
    (each,) = [d for d in damage.RAW if d.name == kind]
    for file in ("pod", "envelope.json", "ledger", "runtime.json", "stage1/apps/box.json"):
        each.apply(os.path.join(fly.podium.dir, "pods", "run", uuid, file))
    os.kill(pid, signal.SIGTERM)  # `stop` would have to do without the supervisor, whose pid it does not know
    until(lambda: not os.path.exists(f"/proc/{pid}"), "the supervisor has ended")
    with open(os.path.join(fly.podium.dir, "pods", "run", uuid, "status", "box.json"), "rb") as f:
        assert b'"exit_code":7' in f.read()
    assert fly.podium.json("gc", "--grace-period", "0s")["failed"] == []


class Lab:
    """Pods of a podium whose installed code changes while they run."""

    def __init__(self, podium: Podium, venv: Venv, test_dir: str) -> None:
        self.venv = venv
        self.fly = Fly(podium.using(venv.podium, SAMPLE_TRACE=os.path.join(test_dir, "trace")), test_dir)

    def pin(self, uuid: str) -> str:
        """Folder of the pod's pin."""
        return os.path.join(self.fly.podium.dir, "stage1", self.fly.podium.pods()[uuid]["stage1"]["pin"])

    def break_installed(self) -> None:
        """Nothing that a supervisor needs can be imported from what is installed any more."""
        for file in glob.glob(os.path.join(self.venv.site, "podium", "sandbox", "*.py")):
            with open(file, "a", encoding="utf-8") as f:
                f.write("\nraise ImportError('another version')\n")


@pytest.fixture
def lab(podium: Podium, venv_with: Callable[..., Venv], test_dir: str, busybox_rootfs: str) -> Iterator[Lab]:
    made = Lab(podium, venv_with(), test_dir)
    podium("image", "import", busybox_rootfs, "--name", IMAGE, "--exec", "/bin/sh")
    yield made


def test_the_installed_code_changes_while_it_rests(lab: Lab, podium: Podium) -> None:
    """The pin goes on, and rests by the pin the next time; so does a pod that the pin has started."""
    uuid, later = lab.fly.start(LISTENS), lab.fly.prepare(LISTENS)
    pid = rested(lab.fly.podium, uuid)
    lab.break_installed()
    os.kill(pid, signal.SIGUSR1)
    pin = lab.pin(later)
    lab.fly.podium = podium  # which is another one, so that it is the pins that serve from now on
    lab.fly.logged(uuid, "told")
    podium("run-prepared", "--detach", later)
    for each in (uuid, later):
        pid = rested(lab.fly.podium, each)
        with open(f"/proc/{pid}/cmdline", "rb") as f:
            assert f.read().split(b"\0")[4].decode() == f"{pin}/lib/podium/stage1/wait.py"
        assert held(pid) <= BUDGET
        podium("stop", each)
        assert first_app(lab.fly.podium, each)["exit_code"] == 7
    assert podium.json("gc", "--grace-period", "0s")["failed"] == []


def test_no_code_is_left_for_one_at_rest(lab: Lab, podium: Podium) -> None:
    """Its apps end with it; how they ended is known, and what else is the pod's is gc's."""
    ended, running = lab.fly.start(ENDS.format("exit 3")), lab.fly.start(LISTENS)
    pids = {uuid: rested(lab.fly.podium, uuid) for uuid in (ended, running)}
    pin, root = lab.pin(ended), f"/proc/{lab.fly.app(ended)['pid']}/root"
    os.rename(pin, os.path.join(lab.fly.dir, "away"))
    lab.break_installed()
    lab.fly.podium = podium
    open(f"{root}/go", "w").close()
    os.kill(pids[running], signal.SIGTERM)
    ends = {uuid: lab.fly.ended(uuid) for uuid in pids}
    assert (ends[ended]["exit_code"], ends[ended]["message"]) == (3, None)
    assert ends[running]["exit_code"] == 137 and "can't be loaded" in ends[running]["message"]
    report = podium.json("gc", "--grace-period", "0s")
    assert ({*report["collected"]}, report["failed"]) == ({ended, running}, [])


def test_a_plugin_s_sandbox_that_can_t_be_handed_on(
    podium: Podium, venv_with: Callable[..., Venv], plugin_dist: Callable[..., str], test_dir: str, busybox_oci: str
) -> None:
    """Its supervisor stays as it is."""
    venv = venv_with()
    venv.install(plugin_dist("sample", "1.0", sample_code("1.0")))
    using = podium.using(venv.podium, SAMPLE_TRACE=os.path.join(test_dir, "trace"))
    using("image", "import", busybox_oci, "--name", IMAGE)
    uuid = using.out("run", "--detach", "--stage1", "sample", IMAGE, "--", "sleep", "1000")
    other = using.out("run", "--detach", "--stage1", "fly", "--net", "host", IMAGE, "--", "sleep", "1000")
    rested(using, other)  # which began later
    assert not at_rest(supervisor(using, uuid))
    using("stop", uuid, other)
