"""Faults 40 and 45: what is entered has the app's rights, and logs are logs, whichever stage1 a pod has."""

from __future__ import annotations

import re

import pytest

from support.command import Podium
from support.crashes import GC

STAGE1S = {
    "fly": ("--stage1", "fly", "--net", "host"),
    "nspawn": ("--stage1", "nspawn", "--net", "none"),
    "kvm": ("--stage1", "kvm", "--net", "none"),
}
FIELDS = (
    *("Uid", "Gid", "Groups", "CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs"),
    *("Seccomp", "Seccomp_filters", "SigBlk", "SigIgn"),
)
# Busybox's own applets: `ls` has one descriptor more, of the folder that it lists.
SHOWS = "cat /proc/self/status; sed s/^/cgroup:/ /proc/self/cgroup; echo fds: $(ls /proc/self/fd); umask"
CONFINED = (
    *("--user", "1000", "--group", "1000", "--supplementary-gids", "7", "--caps-retain", "CAP_NET_RAW"),
    *("--no-new-privileges", "--seccomp", "mode=remove,errno=EPERM,reboot,mount"),
)


@pytest.fixture
def box(podium: Podium, busybox_oci: str) -> Podium:
    podium("image", "import", busybox_oci, "--name", "box")
    return podium


def _shown(text: str) -> dict[str, str]:
    fields = dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
    shown = {key: re.sub(r"\s+", " ", fields[key]).strip() for key in FIELDS if key in fields}
    cgroups = " ".join(sorted(line for line in text.splitlines() if line.startswith("cgroup:")))
    return {**shown, "fds": fields["fds"].strip(), "cgroup": cgroups}


@pytest.mark.parametrize(
    ("stage1", "confined"),
    [("fly", ()), ("nspawn", ()), *((stage1, CONFINED) for stage1 in STAGE1S)],
    ids=lambda value: value if isinstance(value, str) else "confined" if value else "as it is",
)
def test_40_what_is_entered_has_the_apps_rights(box: Podium, stage1: str, confined: tuple[str, ...]) -> None:
    script = f"{SHOWS}; echo ready; exec sleep 1000"
    uuid = box.out("run", "-d", *STAGE1S[stage1], "box", *confined, "--exec", "/bin/sh", "--", "-c", script)
    lines = []
    with box.start("logs", "-f", uuid) as follower:
        assert follower.stdout is not None
        for line in follower.stdout:
            if line == "ready\n":
                break
            lines.append(line)
        follower.kill()
    app = _shown("".join(lines))
    assert len(app) >= len(FIELDS) and (app["CapEff"] == "0000000000000000") == bool(confined)
    entered = box.out("enter", uuid, "--", "/bin/sh", "-c", SHOWS)
    assert _shown(entered) == app
    assert app["fds"] == "0 1 2 3"
    box("rm", "--force", uuid)


@pytest.mark.parametrize("stage1", STAGE1S)
def test_45_logs_are_the_same_for_every_stage1(box: Podium, stage1: str) -> None:
    script = "echo first; echo second >&2; read line < /wait; sleep 1; printf 'no newline at the end'; exit 3"
    words = ("box", "--exec", "/bin/sh", "--", "-c", f"mkfifo /wait; {script}")
    uuid = box.out("run", "-d", *STAGE1S[stage1], *words)
    with box.start("logs", "-f", uuid) as follower:
        assert follower.stdout is not None
        begun = [follower.stdout.readline() for _ in range(2)]  # while it runs
        box("enter", uuid, "--", "/bin/sh", "-c", "echo go > /wait")
        rest, err = follower.communicate(timeout=60)  # it ends with the pod
    assert (sorted(begun), rest, follower.returncode) == (["first\n", "second\n"], "no newline at the end\n", 0), err
    assert box.json("status", "--wait", uuid)["pod"]["exit_code"] == 3
    box("gc", "--mark-only")
    for _ in range(2):
        assert sorted(box.out("logs", uuid).splitlines()) == ["first", "no newline at the end", "second"]
    assert box.out("logs", "--tail", "1", uuid) == "no newline at the end"
    box(*GC)
    assert "no pod" in box("logs", uuid, check=3).stderr
