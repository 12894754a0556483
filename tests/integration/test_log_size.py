"""The log of an app that prints for ever: bounded, its end kept, its older half read before the newer one."""

from __future__ import annotations

import os
import subprocess

from podium.sandbox.stdio import MAX_LOG
from support.fly import Fly, until

FLOOD = "tr '\\0' {0} </dev/zero | head -c 12000000; echo; "


def test_a_log_is_bounded(fly: Fly) -> None:
    script = "echo first; " + "".join(FLOOD.format(letter) for letter in "abc") + "echo last >&2"
    uuid = fly.podium.out(*fly.argv("run", script, pod=("--detach", "--net", "host")))
    fly.podium("wait", uuid)
    folder = os.path.join(fly.podium.dir, "pods", "run", uuid, "logs")
    assert sorted(os.listdir(folder)) == ["box", "box.1"]
    sizes = [os.path.getsize(os.path.join(folder, name)) for name in os.listdir(folder)]
    assert max(sizes) <= MAX_LOG < sum(sizes)
    said = fly.podium.out("logs", uuid)
    assert "first" not in said and said.endswith("\nlast")
    kept = said.replace("\n", "").removesuffix("last")
    assert kept == "b" * kept.count("b") + "c" * 12000000  # nothing is missing in between


def test_who_follows_a_log_does_not_lose_what_was_renamed(fly: Fly) -> None:
    script = "echo first; " + FLOOD.format("a") + "read x </go; " + FLOOD.format("b") + "echo last"
    uuid = fly.podium.out(*fly.argv("run", "mkfifo /go; " + script, pod=("--detach", "--net", "host")))
    out = os.path.join(fly.dir, "followed")
    with open(out, "w", encoding="utf-8") as f:
        following = subprocess.Popen(fly.podium.argv("logs", "--follow", uuid), env=fly.podium.environment(), stdout=f)
    until(lambda: os.path.getsize(out) > 12000000, "what was printed has been followed")
    fly.podium("enter", uuid, "--", "sh", "-c", "echo >/go")
    assert following.wait(60) == 0
    with open(out, encoding="utf-8") as f:
        assert f.read().splitlines() == ["first", "a" * 12000000, "b" * 12000000, "last"]
