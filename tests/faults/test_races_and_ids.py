"""Races for a pod, what is recorded and not recomputed, spelled paths, reused pids, kept locks, ids and exit codes."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from podium.linux import procs
from support import damage, oci
from support.command import Podium
from support.distributions import Venv
from support.sample import sample_code
from support.snapshot import Scope

FLY = ("--stage1", "fly", "--net", "host")
GC = ("gc", "--grace-period", "0s", "--expire-prepared", "0s")
TRUE = ("busybox", "--exec", "/bin/true")
SLEEP = ("busybox", "--name", "srv", "--exec", "/bin/sleep", "--", "1000")


@pytest.fixture
def loaded(podium: Podium, busybox_oci: str) -> Podium:
    podium("image", "import", busybox_oci, "--name", "busybox")
    return podium


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    """A process that is nobody's pod."""
    process = subprocess.Popen(["sleep", "1000"])
    yield process
    process.kill()
    process.wait()


def _together(podium: Podium, commands: list[tuple[str, ...]]) -> list[tuple[tuple[str, ...], int, str, str]]:
    started = [(words, podium.start(*words)) for words in commands]
    return [(words, *_ended(process)) for words, process in started]


def _ended(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=60)
    return process.returncode, out, err


def test_15_gc_rm_list_and_stop_at_the_same_time(loaded: Podium) -> None:
    """Each pod is collected once, by somebody; nobody fails."""
    for _ in range(2):
        pods = []
        for _ in range(4):
            pods.append(loaded.out("run", "--detach", *FLY, *TRUE))
            loaded("wait", pods[-1])
            pods.append(loaded.out("prepare", *FLY, *TRUE))
        commands: list[tuple[str, ...]] = []
        for _ in range(2):
            commands += [
                (*GC, "--format", "json"),
                ("rm", *pods),
                ("list",),
                ("rm", *reversed(pods)),
                ("stop", pods[0]),
            ]
        done = _together(loaded, commands)
        for words, code, out, err in done:
            gone = words[0] in ("rm", "stop") and code in (3, 6) and "no pod" in err  # it was gone before rm began
            assert code == 0 or gone, (words, code, out, err)
            assert "internal error" not in err and "Traceback" not in err, err
        assert loaded.pods() == {}


def test_15_run_prepared_has_one_winner(loaded: Podium) -> None:
    for _ in range(3):
        uuid = loaded.out("prepare", *FLY, "busybox", "--exec", "/bin/sh", "--", "-c", "exit 9")
        done = _together(loaded, [("run-prepared", uuid)] * 5 + [("list",)] * 2)
        ran = [code for words, code, _, _ in done if words[0] == "run-prepared"]
        assert sorted(ran) == [9, 125, 125, 125, 125], done
        assert loaded.pods()[uuid]["apps"][0]["exit_code"] == 9
        loaded("rm", uuid)


def test_15_run_prepared_against_gc_and_rm(loaded: Podium) -> None:
    """It runs, or is gone: never both, never half."""
    for _ in range(4):
        uuid = loaded.out("prepare", *FLY, "busybox", "--exec", "/bin/sh", "--", "-c", "exit 9")
        done = _together(loaded, [("run-prepared", uuid), GC, ("rm", uuid), ("list",), GC])
        for words, code, _, err in done:
            allowed = {"run-prepared": (9, 125), "gc": (0,), "rm": (0, 3, 4), "list": (0,)}[words[0]]
            assert code in allowed and "internal error" not in err, (words, code, err)
        loaded(*GC)
        assert loaded.pods() == {}


def test_04_interface_and_version_are_those_of_the_record(
    podium: Podium, venv_with: Callable[..., Venv], plugin_dist: Callable[..., str], test_dir: str, busybox_oci: str
) -> None:
    """A plugin of a newer version and interface is not what an old pod is said to be of, nor what collects it."""
    venv, trace = venv_with(), os.path.join(test_dir, "trace")
    venv.install(plugin_dist("sample", "1.0", sample_code("1.0")))
    used = podium.using(venv.podium, SAMPLE_TRACE=trace)
    used("image", "import", busybox_oci, "--name", "busybox")
    uuid = used.out("prepare", "--stage1", "sample", *TRUE)
    before = used.pods()[uuid]["stage1"]
    assert (before["version"], before["interface"]) == ("1.0", 1)
    newer = sample_code("2.0", state=7).replace("state=7,", "state=7, interface=2,")
    venv.install(plugin_dist("sample", "2.0", newer))
    assert used.pods()[uuid]["stage1"] == before
    used("run-prepared", uuid)
    assert used.pods()[uuid]["stage1"] == before
    assert used.json(*GC)["collected"] == [uuid]
    with open(trace, encoding="utf-8") as f:
        assert f.read().split("\n")[:-1] == ["prepare 1.0", "run 1.0", "gc 1.0"]


ODD = ("colon:in", "comma,in", "blank in", "line\nbreak", "back\\slash", "ümläut", 'quote"s', "%s$HOME", "-dash")


@pytest.mark.parametrize("name", ODD)
def test_27_data_directory_of_an_odd_name(
    name: str, podium: Podium, busybox_oci: str, test_dir: str, config_file: str, scope: Scope
) -> None:
    """A pod's whole life in each."""
    odd = Podium(os.path.join(test_dir, name), config_file, scope)
    odd("image", "import", busybox_oci, "--name", "busybox")
    assert odd("run", "--rm", *FLY, "busybox", "--exec", "/bin/echo", "--", "ran").stdout == "ran\n"
    uuid = odd.out(
        "run", "--detach", *FLY, "--volume", "v,kind=empty", *SLEEP[:-2], "--mount", "volume=v,target=/v", *SLEEP[-2:]
    )
    assert odd("enter", uuid, "--", "sh", "-c", "echo x > /v/file; echo y > /new; cat /v/file").stdout == "x\n"
    odd("stop", uuid)
    odd("export", uuid, os.path.join(test_dir, "out.tar"))
    assert odd.json(*GC)["collected"] == [uuid]
    assert odd.pods() == {}


def test_27_data_directory_by_a_link_and_moved(loaded: Podium, test_dir: str, config_file: str, scope: Scope) -> None:
    """Nothing that is stored says where the data directory was."""
    link, moved = os.path.join(test_dir, "link"), os.path.join(test_dir, "moved")
    os.symlink(loaded.dir, link)
    linked = Podium(link, config_file, scope)
    running = linked.out("run", "--detach", *FLY, *SLEEP)
    assert loaded("enter", running, "--", "echo", "in").stdout == "in\n"
    loaded("stop", running)
    prepared = linked.out("prepare", *FLY, "busybox", "--exec", "/bin/echo", "--", "ran")
    os.rename(loaded.dir, moved)
    there = Podium(moved, config_file, scope)
    assert there.pods().keys() == {running, prepared}
    assert there("run-prepared", prepared).stdout == "ran\n"
    assert set(there.json(*GC)["collected"]) == {running, prepared}
    assert there.pods() == {}


@pytest.mark.parametrize(("stage1", "step"), [("fly", 1), ("nspawn", 3)])
def test_30_a_reused_pid_is_not_signalled(
    loaded: Podium, sleeper: subprocess.Popen[bytes], stage1: str, step: int
) -> None:
    """Records that name the pid of another process, which was started at another time or in another boot."""
    me = procs.identify(sleeper.pid)
    assert me is not None
    forged = (
        {"pid": me.pid, "start_time": me.start_time - 1, "boot_id": me.boot_id},
        {"pid": me.pid, "start_time": me.start_time, "boot_id": "00000000-0000-0000-0000-000000000000"},
    )
    verbs = (("stop",), ("stop", "--force"), ("kill", "--signal", "KILL"), ("rm", "--force"))
    for process, verb in list(itertools.product(forged, verbs))[::step]:
        uuid = loaded.out("run", "--detach", "--stage1", stage1, "--net", "host", *SLEEP)
        folder = os.path.join(loaded.dir, "pods", "run", uuid)
        damage.resealed(lambda r, p=process: r.update(supervisor=p, leader=p))(f"{folder}/runtime.json")  # type: ignore[misc]
        damage.resealed(lambda r, p=process: r.update(process=p))(f"{folder}/status/srv.json")  # type: ignore[misc]
        refused = loaded("enter", uuid, "--", "true", check=125)
        assert "has ended" in refused.stderr
        loaded(*verb, uuid, check=None)
        assert sleeper.poll() is None, f"{verb} has killed a stranger"
        loaded("rm", "--force", uuid, check=None)
        assert loaded.json(*GC)["failed"] == []
        assert loaded.pods() == {}
    assert sleeper.poll() is None


def test_31_what_an_app_leaves_running_ends_with_it(loaded: Podium, test_dir: str, host_guard: object) -> None:
    """It forks twice and leaves its session; the first process ends: all of the pod ends."""
    script = "setsid sh -c 'sleep 1000 & sleep 1000 &' ; sleep 0.1; exit 4"
    loaded("run", *FLY, "busybox", "--exec", "/bin/sh", "--", "-c", script, check=4)
    (pod,) = loaded.pods().values()
    assert (pod["state"], pod["problem"]) == ("exited", None)
    loaded(*GC)
    assert loaded.pods() == {}


def test_31_a_daemon_that_keeps_the_lock_is_named(loaded: Podium) -> None:
    """A process that inherited the lock: the pod runs, says who holds it, and is not collected until it ends."""
    uuid = loaded.out("prepare", *FLY, *TRUE)
    folder = os.path.join(loaded.dir, "pods", "prepared", uuid)
    holder = subprocess.Popen(
        [
            *(sys.executable, "-c"),
            "import fcntl, os, sys, time\n"
            "fd = os.open(sys.argv[1], os.O_RDONLY)\n"
            "print(flush=True); sys.stdin.readline()\n"
            "fcntl.flock(fd, fcntl.LOCK_EX)\n"
            "print(flush=True); time.sleep(1000)",
            folder,
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert holder.stdin and holder.stdout
    try:
        holder.stdout.readline()
        loaded("run-prepared", uuid)
        holder.stdin.write(b"\n")
        holder.stdin.flush()
        holder.stdout.readline()
        pod = loaded.pods()[uuid]
        assert (pod["state"], pod["problem"]["reason"]) == ("running", "held")
        assert f"pid {holder.pid}" in pod["problem"]["message"]
        assert f"pid {holder.pid}" in loaded("stop", "--timeout", "0s", uuid, check=1).stderr
        assert loaded.json(*GC)["collected"] == []
        assert holder.poll() is None
    finally:
        holder.kill()
        holder.communicate()
    assert loaded.json(*GC)["collected"] == [uuid]


@pytest.mark.parametrize("stage1", ["fly", "nspawn"])
@pytest.mark.parametrize("alter", [{"manifests": []}, {"mediaType": "application/vnd.oci.image.index.v1+json"}])
def test_38_an_ambiguous_image_is_never_run(podium: Podium, test_dir: str, stage1: str, alter: dict[str, Any]) -> None:
    """What one reader takes for a manifest and another for an index."""
    layout = os.path.join(test_dir, "layout")
    oci.write_layout(layout, [oci.layer([("ran", b"")])], {"Entrypoint": ["/ran"]}, alter=alter)
    refused = podium("run", "--stage1", stage1, layout, check=125)
    assert "ambiguous" in refused.stderr or "calls itself" in refused.stderr
    assert podium.pods() == {} and podium.json("image", "list")["images"] == []


DESTRUCTIVE = ("rm", "stop", "status", "enter", "run-prepared", "cat-manifest")
WRONG_IDS = (
    "",
    " ",
    "-",
    "--",
    ".",
    "..",
    "/",
    "*",
    "a/b",
    "../prepared",
    "A" * 8,
    "\n",
    "é",
    "00",
    "x\0"[:1] + "%",
    "a" * 64,
)


def test_33_ids_that_are_none(loaded: Podium, test_dir: str) -> None:
    """Refused, and nothing happens to the pods that are there."""
    pods = [loaded.out("prepare", *FLY, *TRUE) for _ in range(2)]
    wrong = [*WRONG_IDS, pods[0][0], pods[0][:3], pods[0].upper() if pods[0] != pods[0].upper() else "A", pods[0] + "0"]
    for verb in DESTRUCTIVE:
        for ref in wrong:
            done = loaded(verb, "--", ref, check=None) if ref.startswith("-") else loaded(verb, ref, check=None)
            assert done.returncode in (2, 3, 125), (verb, ref, done)
            assert done.stderr.startswith("podium: ") and "internal error" not in done.stderr, (verb, ref, done)
    assert loaded.pods().keys() == {*pods}
    # An ambiguous prefix: make two that begin alike.
    first, second = (f"{pods[0][:-1]}{digit}" for digit in "01" if digit != pods[0][-1] or True)
    for uuid in {first, second} - {*pods}:
        damage.copy_pod(f"{loaded.dir}/pods/prepared/{pods[0]}", f"{loaded.dir}/pods/prepared/{uuid}")
    said = loaded("rm", pods[0][:8], check=2).stderr
    assert first in said and second in said
    file = os.path.join(test_dir, "uuid")
    for content, code in ((pods[1] + "\n", 0), (pods[1] + "\n", 3), ("", 2), ("\n\n", 2), ("x y\n", 2)):
        with open(file, "w", encoding="ascii") as f:
            f.write(content)
        loaded("rm", "--uuid-file", file, check=code)
    loaded("rm", "--uuid-file", file + "-missing", check=2)
    loaded(*GC)


def test_34_names_persist_and_are_taken_once(loaded: Podium) -> None:
    """A name is in the pod's own record: free again when its pod has been collected or waits to be."""
    first = loaded.out("run", "--detach", *FLY, "--name", "web", *TRUE)
    loaded("wait", "web")
    assert f"taken by pod {first}" in loaded("prepare", *FLY, "--name", "web", *TRUE, check=4).stderr
    loaded("gc", "--mark-only")
    second = loaded.out("prepare", *FLY, "--name", "web", *TRUE)
    assert loaded.json("status", "web")["pod"]["uuid"] == second
    assert loaded.out("rm", "web") == second
    assert loaded.out("rm", "web") == first
    loaded("rm", "web", check=3)
    for name in ("", "-a", "a-", "A", "a b", "a/b", "..", "x" * 64, "é", first):
        loaded("prepare", *FLY, f"--name={name}", *TRUE, check=2)
    done = _together(loaded, [("prepare", *FLY, "--name", "one", *TRUE)] * 5)
    assert sorted(code for _, code, _, _ in done) == [0, 4, 4, 4, 4]
    assert [pod["name"] for pod in loaded.pods().values()] == ["one"]
    loaded("rm", "one")


def test_42_exit_codes_outlive_the_client(loaded: Podium) -> None:
    """The client is killed, or gc collects at once: the code is in the status, or was the command's own."""
    script = ("busybox", "--exec", "/bin/sh", "--", "-c", "trap 'exit 8' TERM; echo up; while :; do sleep 0.01; done")
    client = loaded.start("run", *FLY, *script)
    assert client.stdout and client.stderr
    assert client.stdout.readline() == "up\n"
    client.send_signal(signal.SIGKILL)
    client.communicate()
    (uuid,) = loaded.pods()
    pod = loaded.json("status", "--wait=30s", uuid)["pod"]
    assert (pod["exit_code"], pod["apps"][0]["exit_code"], pod["apps"][0]["state"]) == (8, 8, "exited")
    loaded(*GC)
    for code in range(10):
        collector = loaded.start(*GC)
        loaded("run", "--rm", *FLY, "busybox", "--exec", "/bin/sh", "--", "-c", f"exit {code}", check=code)
        collector.communicate(timeout=60)
    assert loaded.pods() == {}
