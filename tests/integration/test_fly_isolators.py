"""What confines an app under fly, by its effect; what the kernel has to enforce, under nspawn too."""

from __future__ import annotations

import os
import re
import subprocess

import pytest

from podium.linux import caps, hierarchies
from support.fly import Fly, small_rootfs, until

CAPS = "grep -E '^(CapInh|CapPrm|CapEff|CapBnd|CapAmb):' /proc/self/status"


def _caps(text: str) -> dict[str, set[str]]:
    sets = {}
    for line in text.splitlines():
        name, mask = line.split(":\t")
        sets[name] = set(caps.names(n for n in range(64) if int(mask, 16) >> n & 1))
    return sets


def test_without_isolators_an_app_has_what_podium_has(fly: Fly) -> None:
    have = caps.current()
    found = _caps(fly.out(CAPS))
    assert found["CapBnd"] == set(caps.names(have["bounding"])) and found["CapEff"] == set(
        caps.names(have["effective"])
    )
    assert found["CapInh"] == found["CapAmb"] == set()


@pytest.mark.parametrize("user", ["root", "app"])
@pytest.mark.parametrize("kept", ["CAP_CHOWN,CAP_NET_BIND_SERVICE", "chown", ""])
def test_retained_capabilities(fly: Fly, user: str, kept: str) -> None:
    found = _caps(fly.out(CAPS, "--caps-retain", kept, "--user", user))
    wanted = {n if n.startswith("CAP_") else f"CAP_{n.upper()}" for n in kept.split(",") if n}
    assert found["CapBnd"] == wanted
    assert found["CapPrm"] == found["CapEff"] == (wanted if user == "root" else set())
    assert found["CapInh"] == found["CapAmb"] == set()


def test_removed_capabilities(fly: Fly) -> None:
    found = _caps(fly.out(CAPS, "--caps-remove", "CAP_CHOWN,CAP_MKNOD"))
    everything = set(caps.names(caps.current()["bounding"]))
    assert found["CapBnd"] == found["CapEff"] == everything - {"CAP_CHOWN", "CAP_MKNOD"}


def test_a_removed_capability_is_really_gone(fly: Fly) -> None:
    fly.run("touch /f; chown 5 /f")
    assert "Operation not permitted" in fly.run("touch /f; chown 5 /f", "--caps-remove", "CHOWN", check=1).stderr


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (("--caps-retain", "CAP_NOSUCH"), "CAP_NOSUCH"),
        (("--seccomp", "mode=remove,nosuchcall"), "nosuchcall"),
        (("--seccomp", "mode=remove,@no/set"), "@no/set"),
        (("--seccomp", "mode=remove,errno=ENOSUCH,mount"), "ENOSUCH"),
        (("--seccomp", "mode=retain,@appc.io/empty"), "seccomp"),
        (("--rlimit", "NOSUCH=1:2"), "NOSUCH"),
        (("--rlimit", "NOFILE=10:5"), "soft limit"),
        (("--memory", "lots"), "lots"),
        (("--cpu", "-1"), "-1"),
        (("--pids", "0"), "0"),
    ],
)
def test_what_is_no_isolator_is_refused_at_prepare_by_name(fly: Fly, options: tuple[str, ...], named: str) -> None:
    assert named in fly.refused(*options)


@pytest.fixture
def setuid_image(fly: Fly, busybox_rootfs: str) -> str:
    """An image with a set-user-id program that prints its effective user."""
    rootfs = small_rootfs(os.path.join(fly.dir, "setuid"), busybox_rootfs)
    path = os.path.join(rootfs, "bin/suid")
    source = '#include <unistd.h>\n#include <stdio.h>\nint main(void) { return printf("%d\\n", geteuid()) < 0; }\n'
    subprocess.run(["gcc", "-static", "-x", "c", "-o", path, "-"], input=source, text=True, check=True)
    os.chmod(path, 0o4755)
    return fly.image("test/setuid", rootfs)


@pytest.mark.parametrize(("options", "uid"), [((), "0"), (("--no-new-privileges",), "1000")])
def test_no_new_privileges(fly: Fly, setuid_image: str, options: tuple[str, ...], uid: str) -> None:
    shown = fly.out("grep ^NoNewPrivs /proc/self/status; suid", "--user", "app", *options, image=setuid_image)
    assert shown.split() == ["NoNewPrivs:", "1" if options else "0", uid]


MKDIR = ("mkdir", "mkdirat")


@pytest.mark.parametrize("errno", ["EPERM", "ENOSPC", "ENOSYS", ""])
def test_a_removed_system_call_fails_with_its_errno(either: Fly, errno: str) -> None:
    words = ",".join(["mode=remove", *([f"errno={errno}"] if errno else []), *MKDIR])
    done = either.run("mkdir /x; echo $?; echo still here", "--seccomp", words)
    code, *rest = done.stdout.splitlines()
    assert rest == ["still here"]
    if errno:
        texts = {"EPERM": "Operation not permitted", "ENOSPC": "No space left", "ENOSYS": "Function not implemented"}
        assert texts[errno] in done.stderr and code == "1"
    else:
        assert code == str(128 + 31), "without an errno the call ends the process with SIGSYS"


@pytest.mark.parametrize("words", ["@docker/default-whitelist", "@rkt/default-whitelist"])
def test_a_retained_set_lets_a_shell_work_and_blocks_the_rest(fly: Fly, words: str) -> None:
    done = fly.run(
        "mkdir /x && ls -d /x; unshare -m true; grep ^Seccomp: /proc/self/status",
        "--seccomp",
        f"mode=retain,errno=EPERM,{words}",
    )
    assert done.stdout.split() == ["/x", "Seccomp:", "2"]
    assert "Operation not permitted" in done.stderr


def test_a_narrow_retain_set_still_starts(fly: Fly) -> None:
    calls = (
        "read,write,open,openat,close,brk,mmap,munmap,arch_prctl,set_tid_address,set_robust_list,rseq,prlimit64,"
        "getrandom,mprotect,readlink,readlinkat,uname,fstat,newfstatat,getuid,geteuid,getgid,getegid,rt_sigaction,"
        "rt_sigprocmask,ioctl,prctl"
    )
    done = fly.podium(
        *(
            "run",
            "--rm",
            "--stage1",
            "fly",
            "box",
            "--exec",
            "/bin/echo",
            "--seccomp",
            f"mode=retain,errno=EPERM,{calls}",
        ),
        *("--user", "app", "--working-dir", "/tmp", "--caps-retain", "", "--rlimit", "NOFILE=64:64", "--", "narrow"),
    )
    assert done.stdout == "narrow\n"


def test_wildcards_that_mean_all_or_nothing(fly: Fly) -> None:
    assert fly.out("mkdir /x && echo made", "--seccomp", "mode=retain,@appc.io/all") == "made"
    assert fly.out("mkdir /x && echo made", "--seccomp", "mode=remove,@appc.io/empty,mkdir") == "made"


def test_a_filter_without_privileges_gains_none_either(fly: Fly) -> None:
    shown = fly.out(
        "grep -E '^(Seccomp|NoNewPrivs):' /proc/self/status", "--seccomp", "mode=remove,mount", "--user", "app"
    )
    assert shown.split() == ["NoNewPrivs:", "1", "Seccomp:", "2"]


def test_rlimits_are_seen_by_the_app(fly: Fly) -> None:
    shown = fly.out(
        "cat /proc/self/limits", "--rlimit", "NOFILE=100:200", "--rlimit", "CORE=0:0", "--rlimit", "rlimit_nproc=50:60"
    )
    limits = {line[:26].strip(): line[26:].split()[:2] for line in shown.splitlines()[1:]}
    assert limits["Max open files"] == ["100", "200"]
    assert limits["Max core file size"] == ["0", "0"]
    assert limits["Max processes"] == ["50", "60"]


def test_an_rlimit_above_the_hard_limit_is_refused_clearly(fly: Fly) -> None:
    """Lowered around podium by prlimit(1); to raise it takes CAP_SYS_RESOURCE, which is taken away too."""
    drop = ["prlimit", "--nofile=512:1024", "capsh", "--drop=cap_sys_resource", "--", "-c", 'exec "$0" "$@"']
    argv = fly.podium.argv(*fly.argv("run", "true", "--rlimit", "NOFILE=2000:2000", pod=("--name", "x")))
    done = subprocess.run([*drop, *argv], env=fly.podium.environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 125, done.stderr
    assert "NOFILE=2000:2000" in done.stderr and "1024" in done.stderr
    assert "Traceback" not in done.stderr


def test_oom_score_adj(fly: Fly) -> None:
    assert fly.out("cat /proc/self/oom_score_adj", "--oom-score-adj", "500") == "500"


def _cgroup(fly: Fly, uuid: str, controller: str) -> str:
    path = hierarchies.current().folder(controller, f"{fly.status(uuid)['cgroup']}/box")
    assert path is not None
    return path


def _read(folder: str, name: str) -> str:
    with open(os.path.join(folder, name), encoding="ascii") as f:
        return f.read().strip()


def test_too_much_memory_is_killed_and_said_so(either: Fly) -> None:
    command = either.argv("run", "exec tail /dev/zero", "--memory", "64Mi", pod=("--name", "x"))
    done = either.podium(*command, check=137)
    assert "memory" in done.stderr
    app = either.app("x")
    assert (app["signal"], app["exit_code"]) == ("SIGKILL", 137) and "memory" in app["message"]


def test_a_child_that_uses_too_much_memory_is_killed_alone(either: Fly) -> None:
    done = either.run("sh -c 'exec tail /dev/zero'; echo $?", "--memory", "64Mi")
    assert done.stdout == "137\n"


def test_a_fork_beyond_pids_is_refused(either: Fly) -> None:
    script = "for i in 1 2 3 4 5 6 7 8 9; do sleep 5 & done; echo done"
    done = either.run(script, "--pids", "4", check=None)
    assert "can't fork" in done.stderr and done.returncode != 0


def test_limits_stand_in_the_apps_cgroup(either: Fly) -> None:
    options = ("--memory", "64Mi", "--cpu", "200m", "--cpu-shares", "512", "--pids", "20")
    uuid = either.start("exec sleep 1000", *options)
    at = hierarchies.current()
    memory, cpu, pids = (_cgroup(either, uuid, c) for c in ("memory", "cpu", "pids"))
    assert _read(memory, "memory.max" if at.is_v2(memory) else "memory.limit_in_bytes") == str(64 << 20)
    assert _read(pids, "pids.max") == "20"
    if at.is_v2(cpu):
        quota, period = map(int, _read(cpu, "cpu.max").split())
        assert _read(cpu, "cpu.weight") == "20"
    else:
        quota, period = (int(_read(cpu, f"cpu.cfs_{what}_us")) for what in ("quota", "period"))
        assert _read(cpu, "cpu.shares") == "512"
    assert quota * 5 == period
    pid = either.app(uuid)["pid"]
    assert str(pid) in _read(memory, "cgroup.procs").split()


def test_a_fifth_of_a_processor_is_throttled(either: Fly) -> None:
    uuid = either.start("i=0; while :; do i=$((i+1)); done", "--cpu", "200m")
    folder = _cgroup(either, uuid, "cpu")

    def throttled() -> int:
        return int(re.search(r"nr_throttled (\d+)", _read(folder, "cpu.stat"))[1])  # type: ignore[index]

    until(lambda: throttled() >= 3, "the app is throttled")


@pytest.mark.parametrize("user", ["root", "app"])
def test_all_at_once(either: Fly, user: str) -> None:
    options = (
        *("--caps-retain", "CHOWN", "--no-new-privileges", "--seccomp", "mode=remove,errno=EPERM,reboot"),
        *("--rlimit", "NOFILE=64:64", "--oom-score-adj", "10", "--memory", "64Mi", "--cpu", "900m", "--pids", "9"),
        *("--user", user, "--readonly-rootfs", "--working-dir", "/tmp"),
    )
    shown = either.out("cat /proc/self/status; ulimit -n; cat /proc/self/oom_score_adj; pwd", *options)
    assert shown.splitlines()[-3:] == ["64", "10", "/tmp"]
    for line in ("NoNewPrivs:\t1", "Seccomp:\t2", "CapBnd:\t0000000000000001"):
        assert line in shown


def test_an_unknown_isolator_is_refused_by_name(fly: Fly, busybox_rootfs: str) -> None:
    isolators = [{"name": "example.com/strange", "value": {"a": 1}}]
    image = fly.image("test/strange", source=busybox_rootfs, isolators=isolators)
    done = fly.podium(*fly.argv("prepare", "true", image=image), check=2)
    assert "isolator:example.com/strange" in done.stderr and not fly.podium.pods()


def test_isolators_of_the_image_are_kept_and_can_be_replaced(fly: Fly, busybox_rootfs: str) -> None:
    isolators = [
        {"name": "os/linux/capabilities-retain-set", "value": {"set": ["CAP_CHOWN"]}},
        {"name": "os/linux/no-new-privileges", "value": True},
    ]
    image = fly.image("test/isolated", source=busybox_rootfs, isolators=isolators)
    show = "grep -E '^(CapBnd|NoNewPrivs):' /proc/self/status | cut -f2"
    assert fly.out(show, image=image).split() == ["0000000000000001", "1"]
    assert fly.out(show, "--caps-retain", "KILL", image=image).split() == ["0000000000000020", "1"]
