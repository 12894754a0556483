"""Stopping, killing, waiting for, restarting and removing pods under fly, and what of it nspawn does likewise."""

from __future__ import annotations

import os
import re
import signal
import time

import pytest

from support.command import Podium
from support.fly import Fly, until
from support.snapshot import Snapshot

GRACEFUL = "trap 'echo stopping; exit 3' TERM; echo ready; while :; do sleep 0.02; done"
DEAF = "trap '' TERM; echo ready; while :; do sleep 0.02; done"


def test_stop_lets_the_app_end_in_order(fly: Fly) -> None:
    uuid = fly.start(GRACEFUL)
    fly.logged(uuid, "ready")
    assert fly.podium.out("stop", uuid) == uuid
    app = fly.app(uuid)
    assert (app["state"], app["exit_code"], app["signal"]) == ("exited", 3, None)
    assert fly.podium.out("logs", uuid).splitlines() == ["ready", "stopping"]
    fly.podium("stop", uuid)  # it has ended: what was asked for


@pytest.mark.parametrize("policy", ["always", "on-failure"])
def test_a_stopped_app_is_not_started_again(fly: Fly, policy: str) -> None:
    uuid = fly.start(GRACEFUL, "--restart", policy)
    fly.logged(uuid, "ready")
    fly.podium("stop", uuid)
    assert (fly.status(uuid)["state"], fly.app(uuid)["restarts"]) == ("exited", 0)


def test_force_kills_at_once(fly: Fly) -> None:
    uuid = fly.start(GRACEFUL)
    fly.logged(uuid, "ready")
    fly.podium("stop", "--force", uuid)
    assert (fly.app(uuid)["signal"], fly.app(uuid)["exit_code"]) == ("SIGKILL", 137)
    assert fly.podium.out("logs", uuid) == "ready"


def test_an_app_that_does_not_listen_is_killed_after_the_timeout(either: Fly) -> None:
    uuid = either.start(DEAF)
    either.logged(uuid, "ready")
    either.podium("stop", "--timeout", "0.3s", uuid)
    assert (either.status(uuid)["state"], either.app(uuid)["signal"]) == ("exited", "SIGKILL")


def test_stop_ends_all_of_the_apps_processes(fly: Fly) -> None:
    uuid = fly.start("trap '' TERM HUP; (setsid sleep 1000 &); (trap '' TERM; sleep 1000) & echo ready; sleep 1000")
    fly.logged(uuid, "ready")
    cgroup = fly.status(uuid)["cgroup"]
    fly.podium("stop", "--timeout", "0.2s", uuid)
    assert not os.path.exists(f"/sys/fs/cgroup/pids/{cgroup}") and not os.path.exists(f"/sys/fs/cgroup/{cgroup}")


def test_what_an_app_leaves_running_ends_with_it(fly: Fly) -> None:
    uuid = fly.start("setsid sleep 1000 > /dev/null 2>&1 & exit 4")
    assert fly.ended(uuid)["exit_code"] == 4


def test_stop_uses_the_images_stop_signal(fly: Fly, test_dir: str, busybox_rootfs: str) -> None:
    from support import oci

    layout = os.path.join(test_dir, "layout")
    oci.write_layout(layout, [oci.layer_of(busybox_rootfs)], {"Entrypoint": ["/bin/sh"], "StopSignal": "SIGUSR1"})
    fly.podium("image", "import", layout, "--name", "stopping")
    uuid = fly.start(GRACEFUL.replace("TERM", "USR1"), image="stopping")
    fly.logged(uuid, "ready")
    fly.podium("stop", uuid)
    assert fly.app(uuid)["exit_code"] == 3


def test_stop_of_several_tries_each(fly: Fly) -> None:
    one, two = fly.start("exec sleep 1000"), fly.start("exec sleep 1000")
    done = fly.podium("stop", one, "00000000-0000-4000-8000-000000000000", two, check=6)
    assert done.stdout.split() == [one, two]
    assert {fly.status(uuid)["state"] for uuid in (one, two)} == {"exited"}


def test_a_prepared_pod_cannot_be_stopped_but_removed(fly: Fly) -> None:
    uuid = fly.prepare("true")
    assert "prepared" in fly.podium("stop", uuid, check=4).stderr
    fly.podium("rm", uuid)
    assert not fly.podium.pods()


def test_kill_sends_a_signal_and_no_more(either: Fly) -> None:
    script = "trap 'echo got USR1' USR1; echo ready; while :; do sleep 0.02; done"
    uuid = either.start(script)
    either.logged(uuid, "ready")
    for name in ("USR1", "SIGUSR1", str(int(signal.SIGUSR1))):
        seen = either.podium("logs", uuid).stdout.count("got USR1")
        either.podium("kill", "--signal", name, uuid)
        until(lambda seen=seen: either.podium("logs", uuid).stdout.count("got USR1") > seen, "the signal is handled")  # type: ignore[misc]
    assert either.status(uuid)["state"] == "running"
    either.podium("kill", "--signal", "NOSUCH", uuid, check=2)
    either.podium("kill", uuid)
    assert either.ended(uuid)["signal"] == "SIGKILL"
    either.podium("kill", uuid, check=4)


def test_kill_of_one_app_names_an_app_that_runs(either: Fly) -> None:
    uuid = either.start("trap 'echo got USR1' USR1; echo ready; while :; do sleep 0.02; done")
    either.logged(uuid, "ready")
    either.podium("kill", "--app", "box", "--signal", "USR1", uuid)
    either.logged(uuid, "got USR1")
    refused = either.podium("kill", "--app", "other", uuid, check=3).stderr
    assert "has no app 'other' (apps: box)" in refused
    either.podium("kill", "--app", "box", uuid)
    assert either.ended(uuid)["signal"] == "SIGKILL"


def test_kill_of_an_app_that_has_ended_beside_another(fly: Fly) -> None:
    shell = ("--exec", "/bin/sh", "--", "-c")
    words = ("box", "--name", "long", *shell, "exec sleep 1000", "---", "box", "--name", "short", *shell, "exit 0")
    uuid = fly.podium.out("run", "--detach", "--stage1", "nspawn", "--net", "none", *words)
    until(lambda: fly.status(uuid)["apps"][1]["state"] == "exited", "the second app has ended")
    assert "app 'short' of pod" in fly.podium("kill", "--app", "short", uuid, check=4).stderr
    fly.podium("kill", "--app", "long", uuid)
    assert fly.ended(uuid)["signal"] == "SIGKILL"


def test_wait(fly: Fly) -> None:
    uuid = fly.start("while [ ! -e /go ]; do sleep 0.02; done; exit 6")
    assert fly.podium("wait", "--timeout", "0.1s", uuid, check=1).stdout == ""
    assert fly.podium("status", "--wait=0.1s", uuid, check=1).stdout == ""
    waiting = fly.podium.start("wait", uuid)
    status = fly.podium.start("status", "--wait", uuid)
    fly.podium("enter", uuid, "--", "touch", "/go")
    assert waiting.communicate(timeout=20)[0] == f"{uuid} 6\n"
    assert "exited with 6" in status.communicate(timeout=20)[0]


def test_wait_ready(fly: Fly) -> None:
    uuid = fly.prepare("sleep 1000")
    fly.podium("status", "--wait-ready=0.1s", uuid, check=1)
    waiting = fly.podium.start("status", "--wait-ready", uuid)
    fly.podium("run-prepared", "--detach", uuid)
    out, _ = waiting.communicate(timeout=20)
    assert waiting.returncode == 0 and "running" in out


def test_restart_always(either: Fly) -> None:
    uuid = either.start("echo again; exit 0", "--restart", "always")
    until(lambda: either.podium("logs", uuid).stdout.count("again") >= 3, "it was started three times")
    assert either.status(uuid)["state"] == "running" and either.app(uuid)["restarts"] >= 2
    assert re.search(r"after [2-9] restarts, exited with 0 before", either.podium.out("status", uuid))
    either.podium("stop", uuid)
    assert either.status(uuid)["state"] == "exited"


def test_restart_on_failure(either: Fly) -> None:
    script = "echo x >> /count; [ $(wc -l < /count) -ge 3 ] && exit 0; exit 5"
    uuid = either.start(script, "--restart", "on-failure")
    app = either.ended(uuid)
    assert (app["exit_code"], app["restarts"]) == (0, 2)
    done = either.ended(either.start("exit 0", "--restart", "on-failure"))
    assert (done["exit_code"], done["restarts"]) == (0, 0)


def test_rm_of_a_running_pod_needs_force(fly: Fly) -> None:
    uuid = fly.start("exec sleep 1000")
    assert "running" in fly.podium("rm", uuid, check=4).stderr
    assert fly.status(uuid)["state"] == "running"
    assert fly.podium.out("rm", "--force", uuid) == uuid
    assert not fly.podium.pods()
    fly.podium("rm", uuid, check=3)


@pytest.mark.parametrize("code", [0, 7])
def test_run_rm_in_the_foreground(fly: Fly, code: int) -> None:
    fly.podium(*fly.argv("run", f"exit {code}", pod=("--rm",)), check=code)
    assert not fly.podium.pods()
    assert [
        d for d in os.listdir(os.path.join(fly.podium.dir, "pods")) if os.listdir(f"{fly.podium.dir}/pods/{d}")
    ] == []


def test_run_rm_detached(fly: Fly) -> None:
    uuid = fly.start("while [ ! -e /go ]; do sleep 0.02; done; exit 3", pod=("--rm",))
    assert fly.status(uuid)["state"] == "running"
    waiting = fly.podium.start("wait", uuid)
    fly.podium("enter", uuid, "--", "touch", "/go")
    out, _ = waiting.communicate(timeout=20)
    assert out.split()[0] == uuid
    until(lambda: not fly.podium.pods(), "the pod is gone")


def test_run_rm_of_what_cannot_be_started(fly: Fly) -> None:
    fly.podium("run", "--rm", "--stage1", "fly", "box", "--exec", "/no/such", check=127)
    assert not fly.podium.pods()


def _handlers(**commands: str) -> list[dict[str, object]]:
    return [{"name": name.replace("_", "-"), "exec": ["/bin/sh", "-c", line]} for name, line in commands.items()]


def test_event_handlers_run_before_and_after_the_app(fly: Fly, busybox_rootfs: str) -> None:
    handlers = _handlers(pre_start="echo before; echo x > /made", post_stop="echo after; exit 9")
    image = fly.image("test/handlers", source=busybox_rootfs, eventHandlers=handlers)
    done = fly.podium(*fly.argv("run", "cat /made; echo app; exit 7", pod=("--name", "x"), image=image), check=7)
    assert done.stdout.splitlines() == ["before", "x", "app", "after"]
    assert (fly.app("x")["exit_code"], fly.app("x")["signal"]) == (7, None)


def test_a_failing_pre_start_handler_fails_the_app(fly: Fly, busybox_rootfs: str) -> None:
    handlers = _handlers(pre_start="echo before; exit 5", post_stop="echo after")
    image = fly.image("test/handlers", source=busybox_rootfs, eventHandlers=handlers)
    done = fly.podium(*fly.argv("run", "echo app", pod=("--name", "x"), image=image), check=5)
    assert done.stdout.splitlines()[0] == "before" and "app" not in done.stdout.split()
    assert "pre-start" in done.stderr and "pre-start" in fly.app("x")["message"]


def test_handlers_of_a_stopped_and_of_a_killed_app(fly: Fly, busybox_rootfs: str) -> None:
    image = fly.image("test/handlers", source=busybox_rootfs, eventHandlers=_handlers(post_stop="echo after"))
    for signal_name, code in (("TERM", 143), ("KILL", 137)):
        uuid = fly.start("echo ready; exec sleep 1000", image=image)
        fly.logged(uuid, "ready")
        fly.podium("kill", "--signal", signal_name, uuid)
        assert fly.ended(uuid)["exit_code"] == code
        assert fly.podium.out("logs", uuid).splitlines() == ["ready", "after"]


def test_a_handler_has_the_apps_restrictions(fly: Fly, busybox_rootfs: str) -> None:
    handlers = _handlers(pre_start="grep ^Uid /proc/self/status | cut -f2; cat /proc/self/cgroup | head -n 1")
    image = fly.image("test/handlers", source=busybox_rootfs, eventHandlers=handlers)
    out = fly.out("cat /proc/self/cgroup | head -n 1", "--user", "app", image=image).splitlines()
    assert out[0] == "1000" and out[1] == out[2]


def test_status_tells_of_a_running_pod(either: Fly) -> None:
    uuid = either.start("exec sleep 1000", pod=("--name", "web"))
    status = either.status("web")
    assert status["uuid"] == uuid and status["state"] == "running" and status["memory_bytes"] > 0
    assert status["started"] <= time.strftime("%Y-%m-%dT%H:%M:%S.99999Z", time.gmtime()) and status["finished"] is None
    with open(f"/proc/{status['apps'][0]['pid']}/cmdline", "rb") as f:
        assert f.read() == b"sleep\x001000\x00"
    either.podium("stop", "web")
    ended = either.status("web")
    assert ended["started"] <= ended["finished"] and ended["pid"] is None and ended["apps"][0]["pid"] is None
    assert "exit code: 143" in either.podium.out("status", "web").splitlines()


def test_a_debian_image(podium: Podium, debian_oci: str, host_guard: Snapshot) -> None:
    podium("image", "import", debian_oci, "--name", "debian:12")
    fly = Fly(podium, podium.dir)
    run = ("run", "--rm", "--stage1", "fly", "debian:12", "--")
    listed = podium(*run, "dpkg", "-l", "libc6").stdout
    assert "libc6" in listed
    assert podium(*run, "dpkg", "--version").stdout.startswith("Debian 'dpkg'")
    done = podium(*run, "bash", "-c", "echo $BASH_VERSION; echo err >&2; exit 7", check=7)
    assert done.stdout.startswith("5.") and done.stderr == "err\n"
    uuid = podium.out("run", "-d", "--stage1", "fly", "debian:12", "--user", "www-data", "--", "sleep", "1000")
    assert podium.out("enter", uuid, "--", "id", "-un") == "www-data"
    assert podium.out("enter", uuid, "--", "cat", "/etc/os-release").startswith("PRETTY_NAME")
    podium("stop", uuid)
    assert (fly.app(uuid)["exit_code"], fly.app(uuid)["signal"]) == (143, "SIGTERM")
    report = podium.json("gc", "--grace-period", "0s")
    assert report["collected"] == [uuid] and not podium.pods()


@pytest.mark.parametrize(
    ("pod", "image", "named"),
    [
        ((), ("box", "--name", "one", "---", "box", "--name", "two"), "several apps"),
        (("--net", "default"), ("box",), "network"),
        (("--net", "none"), ("box",), "network"),
        (("--hostname", "h"), ("box",), "hostname"),
        (("--private-users",), ("box",), "private-users"),
        (("--dns", "1.1.1.1"), ("box",), "dns"),
        (("--hosts-entry", "1.1.1.1=x"), ("box",), "dns"),
        (("--port", "http:8080"), ("ported",), "ports"),
        (("--port", "nosuch:8080"), ("ported",), "'nosuch'"),
        ((), ("nosuch-image",), "nosuch-image"),
    ],
)
def test_what_fly_has_not_is_refused_at_prepare_by_name(
    fly: Fly, busybox_rootfs: str, pod: tuple[str, ...], image: tuple[str, ...], named: str
) -> None:
    if "ported" in image:
        fly.image("ported", source=busybox_rootfs, ports=[{"name": "http", "protocol": "tcp", "port": 80}])
    done = fly.podium("prepare", "--stage1", "fly", *pod, *image, check=3 if "nosuch-image" in image else 2)
    assert named in done.stderr and done.stdout == "" and not fly.podium.pods()
