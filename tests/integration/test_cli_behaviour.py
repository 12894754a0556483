"""The command as a process: streams, exit codes, errors, interrupts."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import time
import uuid

import pytest

from podium.cli.main import load, main
from support.command import Podium

NOBODY = str(uuid.UUID(int=1))


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["status", NOBODY], 3, f"no pod {NOBODY}"),
        (["status", ""], 2, "no pod"),
        (["stop", "a" * 8], 3, "no pod"),
        (["list", "--filter", "colour=red"], 2, "--filter: 'colour' is not one of"),
        (["rm"], 2, "'podium rm' needs POD"),
        (["lists"], 2, "podium has no verb 'lists'"),
        (["run", "--stage1", "fly", "--net", "host", "no/such:image"], 125, "no/such"),
        (["run"], 125, "needs IMAGE"),
        (["run-prepared", NOBODY], 125, f"no pod {NOBODY}"),
        (["enter", NOBODY, "--", "ls"], 125, f"no pod {NOBODY}"),
        (["prepare", "--nonsense", "x"], 2, "no option --nonsense"),
        (["image", "rm", "no/such:image"], 3, "no/such"),
        (["image", "import", "/no/such/file"], 2, "/no/such/file"),
        (["kill", "--signal", "NOPE", NOBODY], 2, "'NOPE' is no signal"),
    ],
)
def test_failures_have_their_code_and_are_told_on_stderr(
    podium: Podium, words: list[str], code: int, said: str
) -> None:
    done = podium(*words, check=code)
    assert done.stdout == ""
    assert done.stderr.startswith("podium: ") and said in done.stderr


def test_errors_as_json(podium: Podium) -> None:
    done = podium("status", NOBODY, "--format", "json", check=3)
    error = json.loads(done.stderr)
    assert error["schema"] == "podium.error/1" and error["reason"] == "not-found" and error["subject"] == NOBODY
    error = json.loads(podium("status", "--format=json", "--nonsense", check=2).stderr)
    assert (error["reason"], error["subject"]) == ("bad-usage", "--nonsense")


def test_each_of_several_is_attempted(podium: Podium) -> None:
    done = podium("rm", NOBODY, "no-such-name", check=6)
    assert done.stderr.count("podium: ") == 2 and NOBODY in done.stderr and "no-such-name" in done.stderr


def test_a_list_of_nothing_is_a_heading_and_makes_nothing(podium: Podium) -> None:
    done = podium("list")
    assert done.stdout.split() == ["UUID", "NAME", "STATE", "STAGE1", "APPS", "IMAGE", "CREATED", "NETWORKS"]
    assert podium("list", "--no-legend").stdout == ""
    assert podium.json("ps") == {"schema": "podium.list/1", "pods": []}
    assert not os.path.exists(podium.dir)


def test_debug_shows_where(podium: Podium) -> None:
    done = subprocess.run(podium.argv("--debug", "status", NOBODY), capture_output=True, text=True, check=False)
    assert done.returncode == 3 and "Traceback" in done.stderr and f"podium: no pod {NOBODY}" in done.stderr


def test_a_damaged_configuration_is_told_by_name(podium: Podium, test_dir: str) -> None:
    path = os.path.join(test_dir, "bad.toml")
    with open(path, "w", encoding="utf-8") as f:
        f.write("[gc]\ngrace-perod = 1\n")
    done = podium("config", "--config", path, check=2)
    assert "unknown key 'grace-perod'" in done.stderr and "grace-period" in done.stderr
    shown = podium("config").stdout
    assert [line for line in shown.splitlines() if line.startswith("parent = ") and podium.config in line]


def test_a_full_disk_is_told(podium: Podium) -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(podium.argv("list"), stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 1 and "No space left on device" in done.stderr


@pytest.mark.parametrize(("words", "code"), [(("status", "nobody"), 3), (("run", "nothing"), 125), (("nosuch",), 2)])
def test_an_error_that_cannot_be_told_keeps_its_exit_code(podium: Podium, words: tuple[str, ...], code: int) -> None:
    with open("/dev/full", "w") as full:
        assert subprocess.run(podium.argv(*words), stderr=full, check=False).returncode == code


def test_a_reader_that_leaves_is_no_error(podium: Podium) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(podium.argv("--help"), stdout=writer, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, "")


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_standard_streams_that_are_closed_are_replaced(podium: Podium, closed: str) -> None:
    # The configuration is the first file that would get the number of a closed stream.
    script = f'"$@" {closed}'
    done = subprocess.run(
        ["sh", "-c", script, "sh", *podium.argv("config")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0 and done.stderr == ""
    failed = subprocess.run(["sh", "-c", script, "sh", *podium.argv("rm")], capture_output=True, text=True, check=False)
    assert failed.returncode == 2


def test_without_root_it_is_told_early(podium: Podium) -> None:
    # A child that has loaded the code already: another user may not be able to read the interpreter.
    load("gc")
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.dup2(writer, 2)
        sys.stderr = open(2, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
        os.setresuid(65534, 65534, 65534)
        os._exit(main(["--dir", podium.dir, "gc"]))
    os.close(writer)
    with open(reader, encoding="utf-8") as told:
        assert told.read() == "podium: 'podium gc' needs root\n  hint: try again with sudo\n"
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7


@pytest.mark.parametrize(
    "words", [["--help"], ["-h"], ["help"], ["help", "run"], ["image", "--help"], ["image"], ["ps", "-h"]]
)
def test_help_is_data(podium: Podium, words: list[str]) -> None:
    done = podium(*words)
    assert done.stdout.startswith("usage: podium") and done.stderr == ""


def test_version(podium: Podium) -> None:
    assert podium("version").stdout == podium("--version").stdout
    assert podium.json("version")["schema"] == "podium.version/1"


def test_an_interrupt_is_quiet(podium: Podium, busybox_rootfs: str) -> None:
    podium("image", "import", busybox_rootfs, "--name", "test/busybox:1", "--exec", "/bin/sh")
    made = podium.out("prepare", "--stage1", "fly", "--net", "host", "test/busybox:1", "--", "-c", "true")
    waiting = podium.start("wait", made)
    # It waits, once it sleeps: before that the interpreter itself would be interrupted.
    while _system_call(waiting.pid) not in _CLOCK_NANOSLEEP:
        assert waiting.poll() is None
        time.sleep(0.01)
    waiting.send_signal(signal.SIGINT)
    out, err = waiting.communicate(timeout=30)
    assert (waiting.returncode, out, err) == (130, "", "")
    podium("rm", made)


_CLOCK_NANOSLEEP = ("230", "115")  # its number on x86-64 and on arm64


def _system_call(pid: int) -> str:
    with open(f"/proc/{pid}/syscall", encoding="ascii") as f:
        return f.read().split()[0]


def test_json_is_indented_for_people_only(podium: Podium) -> None:
    assert podium("version", "--format", "json").stdout.count("\n") == 1
    master, slave = pty.openpty()
    subprocess.run(podium.argv("version", "--format", "json"), stdout=slave, check=True)
    os.close(slave)
    shown = os.read(master, 65536).decode()
    os.close(master)
    assert shown.count("\n") > 3 and json.loads(shown)["schema"] == "podium.version/1"
