"""What confines and surrounds an app in a virtual machine, by its effect inside of one guest that eight apps share."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from support.command import Podium
from support.guest import Ended, isolators, shell, start
from support.snapshot import Scope

SECCOMP = "retain,errno=EPERM,@docker/default-whitelist"
# Four seconds of work, in the same four of both: HEAVY says when they begin. Builtins only, since processes are slow in
# a guest. (nc ends with what it is connected to, whatever it has not sent: so who reads holds on for a second.)
NOW = "now() { read -r up _ </proc/uptime; up=${up%.*}; }; now"
HEAVY = f"{NOW}; start=$((up + 6)); echo $start | nc -l -p 7000 >/dev/null"
LIGHT = (
    f"until start=$(sleep 1 | nc 127.0.0.1 7000 2>/dev/null); do :; done; {NOW}; [ $up -lt $start ] || echo late=$up"
)
REMOVED = "echo mkdir=$(mkdir /y 2>&1)"
BURN = """
used() { while read -r key value; do [ $key = usage_usec ] && used=$value; done </sys/fs/cgroup/cpu.stat; }
while [ $up -lt $start ]; do now; done; used; before=$used
while [ $up -lt $((start + 4)) ]; do now; done; used; echo burned=$((used - before))
"""
# A command for each app: KEY=VALUE lines, each of one thing tried.
CAPS = """
touch /f; chown 1:1 /f && echo chown=yes || echo chown=no; mknod /n c 1 3 && echo mknod=yes || echo mknod=no
echo caps=$(grep CapEff /proc/self/status | cut -f2); echo new=$(grep NoNewPrivs /proc/self/status | cut -f2)
"""
FILTERED = """
mkdir /x && echo mkdir=yes || echo mkdir=no; unshare -m true && echo unshare=yes || echo unshare=no
echo filter=$(grep Seccomp: /proc/self/status | cut -f2)
"""
LIMITED = """
echo files=$(ulimit -n):$(ulimit -Hn); echo adj=$(cat /proc/self/oom_score_adj)
dd if=/dev/zero of=/dev/null bs=20M count=1 2>/dev/null; echo small=$?
(echo 1000 >/proc/self/oom_score_adj; exec dd if=/dev/zero of=/dev/null bs=60M count=1 2>/dev/null); echo large=$?
(for i in 1 2 3 4 5 6 7 8 9; do sleep 1 & done; wait) 2>/tmp/err || echo forks=refused
i=0; while [ $i -lt 3000 ]; do i=$((i + 1)); done
while read -r key value; do echo $key=$value; done </sys/fs/cgroup/cpu.stat
"""
OTHERS = """
echo who=$(id -u):$(id -g):$(id -G); echo pwd=$(pwd); echo home=$HOME; echo name=$AC_APP_NAME
for at in / /tmp /home/app; do touch $at/w && echo wrote=$at; done; echo shm=$(touch /dev/shm/w && echo yes)
echo A=$A; echo B=$B; echo C=$C; echo D=$D; echo visible=$(ls /apps /pod 2>/dev/null | wc -l); echo to-stderr >&2
echo kernel=$(echo 1 2>/dev/null >/proc/sys/kernel/panic && echo written || echo refused)
echo sysrq=$(echo h 2>/dev/null >/proc/sysrq-trigger && echo written || echo refused)
echo opened=yes >/dev/stdout; echo to-stderr-again >/dev/stderr
"""
ASKED = """
echo ttl=$(cat /proc/sys/net/ipv4/ip_default_ttl); echo swappiness=$(cat /proc/sys/vm/swappiness)
echo meminfo=$(wc -c </proc/meminfo); echo etc=$(ls /etc | wc -l)
echo bin=$(touch /bin/w && echo written || echo refused)
(sleep 0.1 &); left() { cat /proc/[0-9]*/stat 2>/dev/null | grep -c ') Z 1 '; }
for try in 1 2 3 4 5 6 7 8 9; do sleep 0.2; [ "$(left)" = 0 ] && break; done; echo left=$(left)
echo tmp=$(touch /tmp/w && echo written); echo pre=$(cat /pre); echo host=$(hostname); exit 0
"""


@pytest.fixture(scope="module")
def ended(session_dir: str, scope: Scope, config_file: str, busybox_rootfs: str) -> Iterator[Ended]:
    """The pod, once all of its apps have ended by themselves."""
    folder = os.path.join(session_dir, "kvm-apps")
    os.mkdir(folder)
    podium = Podium(os.path.join(folder, "data"), config_file, scope)
    podium("image", "import", busybox_rootfs, "--name", "box", "--exec", "/bin/sh")
    environment = [{"name": name, "value": "image"} for name in "ABCD"]
    isolators(podium, folder, "env", busybox_rootfs, environment=environment)
    isolators(
        *(podium, folder, "asking", busybox_rootfs),
        isolators=[
            {"name": "podium/masked-paths", "value": {"set": ["/proc/meminfo", "/etc", "/not/there", "/bin/sh/x"]}},
            {"name": "podium/readonly-paths", "value": {"set": ["/bin", "/nowhere"]}},
            {"name": "os/unix/sysctl", "value": {"net.ipv4.ip_default_ttl": "77", "vm/swappiness": "13"}},
        ],
        eventHandlers=[
            {"name": "pre-start", "exec": ["/bin/sh", "-c", "echo first >/pre"]},
            {"name": "post-stop", "exec": ["/bin/sh", "-c", "echo after=$(cat /pre)"]},
        ],
    )
    with open(os.path.join(folder, "env"), "w", encoding="utf-8") as f:
        f.write("B=file\nC=file\nD=file\n")
    uuid = start(
        podium,
        (
            shell("retain", CAPS, "--caps-retain", "CAP_CHOWN", "--no-new-privileges"),
            shell("remove", CAPS, "--caps-remove", "CAP_CHOWN"),
            shell("filter", FILTERED, "--seccomp", f"mode={SECCOMP}"),
            shell("limits", LIMITED, *("--rlimit", "NOFILE=77:88"),
                  *("--oom-score-adj", "500", "--memory", "40M", "--pids", "6", "--cpu", "100m")),
            shell("light", LIGHT + BURN + REMOVED, "--cpu-shares", "102",
                  *("--seccomp", "mode=remove,errno=ENOSPC,mkdir,mkdirat")),
            shell("heavy", HEAVY + BURN, "--cpu-shares", "1024"),
            shell("others", OTHERS, *("--user", "app", "--group", "extra", "--supplementary-gids", "1000,nogroup,77"),
                  *("--readonly-rootfs", "--working-dir", "/home/app", "--environment", "D=app"), image="env"),
            shell("asking", ASKED, image="asking"),
        ),
        (*("--set-env-file", os.path.join(folder, "env"), "--set-env", "C=set", "--set-env", "D=set"),
         *("--hostname", "web.example.org")),
    )  # fmt: skip
    yield Ended(podium, uuid)
    podium("gc", "--grace-period", "0s")


def test_every_app_has_ended_well(ended: Ended) -> None:
    told = {name: (app["exit_code"], app["message"]) for name, app in ended.apps.items()}
    assert told == dict.fromkeys(told, (0, None)) and ended.pod["exit_code"] == 0, ended.complained


def test_capabilities_and_no_new_privileges(ended: Ended) -> None:
    assert ended.values("retain") == {"chown": "yes", "mknod": "no", "caps": f"{1:016x}", "new": "1"}
    removed = ended.values("remove")
    assert (removed["chown"], removed["mknod"], removed["new"]) == ("no", "yes", "0")
    assert int(removed["caps"], 16) & 1 == 0 and int(removed["caps"], 16) > 0


def test_a_system_call_filter(ended: Ended) -> None:
    assert ended.values("filter") == {"mkdir": "yes", "unshare": "no", "filter": "2"}
    assert "No space left on device" in ended.values("light")["mkdir"]


def test_rlimits_and_the_score_of_the_oom_killer(ended: Ended) -> None:
    limits = ended.values("limits")
    assert (limits["files"], limits["adj"]) == ("77:88", "500")


def test_memory_processes_and_processor_by_control_groups_of_the_guest(ended: Ended) -> None:
    limits = ended.values("limits")
    assert (limits["small"], limits["large"]) == ("0", "137"), "what fits is had, what does not is killed"
    assert limits["forks"] == "refused" and int(limits["nr_throttled"]) >= 3


def test_shares_of_the_processor_weigh_apps(ended: Ended) -> None:
    assert "late" not in ended.values("light"), "they were to burn at the same time"
    light, heavy = (int(ended.values(name)["burned"]) for name in ("light", "heavy"))
    assert heavy > 2 * light, f"{heavy} and {light} with 1024 shares beside 102 on one processor"


def test_users_groups_and_working_folder(ended: Ended) -> None:
    shown = ended.values("others")
    uid, gid, groups = shown["who"].split(":")
    assert (uid, gid) == ("1000", "500") and set(groups.split()) == {"500", "1000", "65534", "77"}
    assert (shown["pwd"], shown["home"], shown["name"]) == ("/home/app", "/home/app", "others")


def test_the_environment_is_layered(ended: Ended) -> None:
    """image < --set-env-file < --set-env < the app's own."""
    shown = ended.values("others")
    assert [shown[name] for name in "ABCD"] == ["image", "file", "set", "app"]


def test_a_read_only_rootfs_and_what_of_the_guest_is_not_the_app_s(ended: Ended) -> None:
    shown = ended.values("others")
    assert "wrote" not in shown and shown["shm"] == "yes" and shown["visible"] == "0"
    assert (shown["kernel"], shown["sysrq"]) == ("refused", "refused")


def test_standard_error_is_apart(ended: Ended) -> None:
    assert "to-stderr" in ended.complained["others"] and "to-stderr" not in ended.printed["others"]


def test_standard_streams_may_be_opened_by_an_app_that_is_not_root(ended: Ended) -> None:
    assert ended.values("others")["opened"] == "yes" and "to-stderr-again" in ended.complained["others"]


def test_what_has_lost_its_parent_is_waited_for(ended: Ended) -> None:
    assert ended.values("asking")["left"] == "0"


def test_kernel_parameters_masked_and_read_only_paths(ended: Ended) -> None:
    shown = ended.values("asking")
    assert (shown["ttl"], shown["swappiness"]) == ("77", "13")
    assert (shown["meminfo"], shown["etc"], shown["bin"], shown["tmp"]) == ("0", "0", "refused", "written")


def test_event_handlers_run_in_the_app_s_place(ended: Ended) -> None:
    shown = ended.values("asking")
    assert (shown["pre"], shown["after"]) == ("first", "first")


def test_the_host_name_is_all_apps(ended: Ended) -> None:
    assert ended.values("asking")["host"] == "web.example.org"
