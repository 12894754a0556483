"""The nspawn stage1 on the real systemd-nspawn: several apps, their namespaces, enter, stop, gc."""

from __future__ import annotations

import os
import signal
import time

import pytest

from support.command import Podium

pytestmark = pytest.mark.usefixtures("host_guard")


def _ended(box: Podium) -> None:
    box("gc", "--grace-period", "0s", "--expire-prepared", "0s")
    assert not box.pods()


def test_it_is_the_default_and_passes_output_and_exit_code(box: Podium) -> None:
    done = box("run", "--rm", "box", "--", "sh", "-c", "echo out; echo err >&2; exit 7", check=7)
    assert (done.stdout, done.stderr) == ("out\n", "err\n")
    assert box("run", "--rm", "box", "--", "sh", "-c", "kill -9 $$", check=137).stdout == ""
    assert "not found" in box("run", "--rm", "box", "--", "/nope", check=127).stderr
    assert box("run", "--rm", "box", "--", "cat", input="in\n").stdout == "in\n"
    assert not box.pods()


def test_the_app_is_in_namespaces_of_its_own(box: Podium) -> None:
    show = "for n in pid mnt ipc uts net; do readlink /proc/self/ns/$n; done; hostname; echo $$; ls /sys/class/net"
    done = box("run", "--rm", "--net", "none", "--hostname", "inside", "box", "--", "sh", "-c", show).stdout.split()
    for kind, seen in zip(("pid", "mnt", "ipc", "uts", "net"), done, strict=False):
        assert seen.startswith(f"{kind}:") and seen != os.readlink(f"/proc/self/ns/{kind}")
    assert done[5:] == ["inside", "3", "lo"]
    lo = box("run", "--rm", "--net", "none", "box", "--", "ping", "-c", "1", "-W", "2", "127.0.0.1")
    assert "1 packets received" in lo.stdout


def test_two_apps_share_the_pod_and_have_their_own_rootfs(box: Podium) -> None:
    uuid = box.out(
        *("run", "-d", "--net", "none", "--volume", "v,kind=empty"),
        *("box", "--name", "a", "--mount", "volume=v,target=/v", "--"),
        *("sh", "-c", "echo mine > /own; echo shared > /v/f; echo from a; exec sleep 100"),
        *("---", "box", "--name", "b", "--mount", "volume=v,target=/w", "--"),
        *("sh", "-c", "until cat /w/f 2>/dev/null; do sleep 0.1; done; ls /own; echo from b; exec sleep 101"),
    )
    deadline = time.monotonic() + 20
    while "from b" not in box.out("logs", uuid) and time.monotonic() < deadline:
        time.sleep(0.05)
    logged = box.out("logs", uuid).splitlines()
    assert "a: from a" in logged and "b: shared" in logged and any("b: ls: /own" in line for line in logged)
    seen = box.out("enter", "--app", "b", uuid, "--", "ps")
    assert "sleep 100" in seen and "sleep 101" in seen
    assert box("enter", "--app", "b", uuid, "--", "sh", "-c", "exit 9", check=9).stdout == ""
    box("stop", uuid)
    apps = {a["name"]: a["signal"] for a in box.json("status", uuid)["pod"]["apps"]}
    assert apps == {"a": "SIGTERM", "b": "SIGTERM"}
    _ended(box)


def test_one_app_that_fails_ends_the_pod_with_its_code(box: Podium) -> None:
    box(
        *("run", "--name", "p", "box", "--name", "a", "--", "sh", "-c", "sleep 0.2; exit 3"),
        *("---", "box", "--name", "b", "--", "sleep", "100"),
        check=3,
    )
    apps = {a["name"]: (a["exit_code"], a["signal"]) for a in box.json("status", "p")["pod"]["apps"]}
    assert apps == {"a": (3, None), "b": (143, "SIGTERM")}
    _ended(box)


def test_the_first_that_fails_is_the_pod_s_end_and_the_deaf_are_killed(box: Podium) -> None:
    """a fails; b ends in its own way when asked, with another failure; c does not listen."""
    trap = "touch /v/{0}; while :; do sleep 0.1; done"
    volume = ("--mount", "volume=v,target=/v", "--", "sh", "-c")
    box(
        *("run", "--name", "p", "--net", "none", "--volume", "v,kind=empty"),
        *("box", "--name", "a", *volume, "until [ -e /v/b ] && [ -e /v/c ]; do sleep 0.1; done; exit 3"),
        *("---", "box", "--name", "b", *volume, "trap 'exit 4' TERM; " + trap.format("b")),
        *("---", "box", "--name", "c", *volume, "trap '' TERM; " + trap.format("c")),
        check=3,
    )
    pod = box.json("status", "p")["pod"]
    apps = {a["name"]: (a["exit_code"], a["signal"]) for a in pod["apps"]}
    assert apps == {"a": (3, None), "b": (4, None), "c": (137, "SIGKILL")} and pod["exit_code"] == 3
    _ended(box)


def test_twenty_apps_and_not_one_more(box: Podium) -> None:
    def words(count: int) -> list[str]:
        script = "echo $AC_APP_NAME > /who; cat /who; hostname; echo $AC_APP_NAME >> /v/all; exec sleep 1000"
        app = ("--mount", "volume=v,target=/v", "--", "sh", "-c", script)
        apps = [("---", "box", "--name", f"a{number}", *app) for number in range(count)]
        options = ("--net", "none", "--hostname", "many", "--volume", "v,kind=empty")
        return [*options, *[word for each in apps for word in each][1:]]

    assert "at most 20 apps" in box("prepare", *words(21), check=2).stderr and not box.pods()
    uuid = box.out("run", "-d", *words(20))
    deadline = time.monotonic() + 20
    while len(logged := box.out("logs", uuid).splitlines()) < 40 and time.monotonic() < deadline:
        time.sleep(0.1)
    names = [f"a{number}" for number in range(20)]
    assert sorted(logged) == sorted(line for name in names for line in (f"{name}: {name}", f"{name}: many"))
    pod = box.json("status", uuid)["pod"]
    pids = {app["name"]: app["pid"] for app in pod["apps"]}
    assert list(pids) == names
    for name, pid in pids.items():
        with open(f"/proc/{pid}/cgroup", encoding="ascii") as f:
            assert f"{pod['cgroup']}/{name}\n" in f.read()
    assert sorted(box.out("enter", "--app", "a7", uuid, "--", "cat", "/v/all").split()) == sorted(names)
    assert box.out("enter", "--app", "a7", uuid, "--", "cat", "/who") == "a7"
    box("stop", uuid)
    assert {app["signal"] for app in box.json("status", uuid)["pod"]["apps"]} == {"SIGTERM"}
    _ended(box)


def test_status_tells_what_all_apps_use(box: Podium) -> None:
    hold = (
        "x=$(head -c {} /dev/zero | tr '\\0' x); i=0;"
        " while [ $i -lt 20000 ]; do i=$((i+1)); done; echo held; sleep 1000; :"
    )
    first, second = (
        ("box", "--name", name, "--", "sh", "-c", hold.format(size)) for name, size in (("a", 8 << 20), ("b", 16 << 20))
    )
    uuid = box.out("run", "-d", "--net", "none", *first, "---", *second)
    deadline = time.monotonic() + 20
    while box.out("logs", uuid).count("held") < 2 and time.monotonic() < deadline:
        time.sleep(0.1)
    pod = box.json("status", uuid)["pod"]
    assert pod["memory_bytes"] > 24 << 20 and pod["cpu_seconds"] > 0.005
    for app in pod["apps"]:
        with open(f"/proc/{app['pid']}/cmdline", "rb") as f:
            assert f.read().startswith(b"sh\0-c\0x=")
    box("stop", uuid)
    pod = box.json("status", uuid)["pod"]
    assert (pod["memory_bytes"], pod["cpu_seconds"], pod["apps"][0]["pid"]) == (None, None, None)
    _ended(box)


def test_enter_has_the_app_s_restrictions_and_no_more(box: Podium) -> None:
    uuid = box.out(
        *("run", "-d", "box", "--user", "app", "--caps-retain", "CAP_NET_RAW", "--no-new-privileges", "--"),
        *("sleep", "100"),
    )
    pid = box.json("status", uuid)["pod"]["apps"][0]["pid"]
    keys = ("Uid", "Gid", "Groups", "CapBnd", "CapEff", "CapPrm", "NoNewPrivs", "Seccomp")

    def of(text: str) -> dict[str, list[str]]:
        return {k: v.split() for k, _, v in (line.partition(":") for line in text.splitlines()) if k in keys}

    with open(f"/proc/{pid}/status") as f:
        app = of(f.read())
    inside = of(box.out("enter", uuid, "--", "cat", "/proc/self/status"))
    assert inside == app
    assert app["Uid"][0] == "1000" and int(app["CapBnd"][0], 16) == 1 << 13 and app["NoNewPrivs"] == ["1"]
    with open(f"/proc/{pid}/cgroup") as f:
        groups = sorted(f.read().split())
    entered = box.out("enter", uuid, "--", "cat", "/proc/self/cgroup").split()
    assert [line for line in groups if uuid in line] == sorted(line for line in entered if uuid in line)
    box("stop", uuid)
    _ended(box)


@pytest.mark.parametrize("victim", ["supervisor", "leader", "app", "nspawn", "all"])
def test_nothing_is_left_after_sigkill(box: Podium, victim: str) -> None:
    uuid = box.out("run", "-d", "box", "--", "sh", "-c", "sleep 1000 & sleep 1001")
    pod = box.json("status", uuid)["pod"]
    with open(f"/proc/{pod['leader']}/stat") as f:
        nspawn = int(f.read().rsplit(")", 1)[1].split()[1])
    pids = {"supervisor": pod["pid"], "leader": pod["leader"], "app": pod["apps"][0]["pid"], "nspawn": nspawn}
    for pid in pids.values() if victim == "all" else [pids[victim]]:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            assert victim == "all"  # the first one's end took it along
    box("wait", "--timeout", "20s", uuid, check=None)
    box("stop", uuid, check=None)  # a supervisor that was killed can leave processes, which are shown as held
    _ended(box)  # and the guard finds no process, cgroup or mount of it


def test_check_says_what_the_host_has(box: Podium) -> None:
    (checked,) = box.json("stage1", "check", "nspawn")["plugins"]
    assert checked["usable"] and {"systemd-nspawn", "busybox", "root"} <= {f["name"] for f in checked["findings"]}
    bare = box.using(box.binary, PATH="/nonexistent")
    lacking = bare("stage1", "check", "nspawn", check=7)
    assert "apt-get install systemd-container" in lacking.stdout + lacking.stderr
