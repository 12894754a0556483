"""The kvm stage1 in real guests: streams, users, isolators, enter, stop, gc. A boot takes seconds, so they are few."""

from __future__ import annotations

import json
import os
import time

import pytest

from support.command import Podium

pytestmark = pytest.mark.usefixtures("host_guard")
KVM = ("--stage1", "kvm", "--net", "none")


def _ended(box: Podium) -> None:
    box("gc", "--grace-period", "0s", "--expire-prepared", "0s")
    assert not box.pods()


def test_streams_and_exit_code_of_a_command_in_the_foreground(box: Podium) -> None:
    show = "cat; uname -r; echo err >&2; exit 7"
    done = box("run", *KVM, "--rm", "box", "--", "sh", "-c", show, input="in\n", check=7)
    said = done.stdout.split()
    assert said[0] == "in" and len(said) == 2 and said[1] != os.uname().release and done.stderr == "err\n"
    assert not box.pods()


def test_two_apps_are_confined_entered_stopped_and_collected(box: Podium) -> None:
    show = (
        "id -u; id -g; id -G; echo A=$A; grep -E 'CapBnd|NoNewPrivs' /proc/self/status; echo e >&2;"
        "touch /here && echo wrote; trap 'exit 3' TERM; while :; do sleep 0.1; done"
    )
    uuid = box.out(
        *("run", "-d", *KVM, "box", "--name", "a", "--environment", "A=1", "--memory", "32M", "--pids", "50"),
        *("--caps-retain", "CAP_NET_RAW", "--no-new-privileges", "--", "sh", "-c", show),
        *("---", "box", "--name", "b", "--user", "app", "--", "sh", "-c", "id; ls /here; exec sleep 1000"),
    )
    deadline = time.monotonic() + 30
    while len(logged := box.out("logs", uuid).splitlines()) < 10 and time.monotonic() < deadline:
        time.sleep(0.1)
    # Standard error comes by a way of its own, so it may be logged sooner or later.
    a = [line.removeprefix("a: ") for line in logged if line.startswith("a: ") and line != "a: e"]
    assert a[:4] == ["0", "0", "0", "A=1"] and a[4].split() == ["CapBnd:", f"{1 << 13:016x}"]
    assert a[5].split() == ["NoNewPrivs:", "1"] and "a: e" in logged and "wrote" in a
    assert "b: uid=1000(app) gid=1000(app) groups=500(extra)" in logged
    assert any("/here: No such file" in line for line in logged)  # each has a root of its own
    facts = json.loads(box.out("status", "--format", "json", uuid))
    assert "accelerator" in json.dumps(facts)
    done = box("enter", "--app", "b", uuid, "--", "sh", "-c", "id -u; cat; echo no >&2; exit 5", input="yes\n", check=5)
    assert done.stdout.split() == ["1000", "yes"] and done.stderr == "no\n"
    # The first app's filling of its memory ends that command, not the machine.
    eat = "x=aaaaaaaa; while :; do x=$x$x; done"
    assert box("enter", "--app", "a", uuid, "--", "sh", "-c", eat, check=None).returncode == 137
    assert "/nope" in box("enter", "--app", "b", uuid, "--", "/nope", check=127).stderr
    box("stop", uuid)
    ended = box.out("status", uuid)
    assert "exited with 3" in ended and "exited by SIGTERM" in ended
    refused = box("export", "--app", "a", uuid, "/nonexistent/a.tar", check=2).stderr
    assert "its stage1 is kvm" in refused and "volume" in refused
    _ended(box)
