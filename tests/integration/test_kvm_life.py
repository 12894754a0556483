"""How apps of a virtual machine end, are ended and started again, and what is told of that."""

from __future__ import annotations

import os

import pytest

from support.command import Podium
from support.fly import until
from support.guest import KVM, Ended, logged, shell, start

pytestmark = pytest.mark.usefixtures("host_guard")
WAIT = "while :; do sleep 0.1; done"


def _collect(box: Podium) -> None:
    box("gc", "--grace-period", "0s")
    assert not box.pods()


def test_the_first_that_fails_gives_the_pod_s_code_and_ends_the_others(box: Podium) -> None:
    words = [
        *shell("first", "echo out; echo err >&2; sleep 1; exit 3"),
        *("---", *shell("second", f"trap 'exit 42' TERM; {WAIT}")),
        *("---", *shell("third", "exec sleep 1000")),
        *("---", *shell("fourth", f"trap 'kill -9 $$' TERM; {WAIT}")),
    ]
    done = box("run", *KVM, "--name", "pod", *words, check=3)
    assert (done.stdout, done.stderr) == ("out\n", "err\n")
    apps = {app["name"]: (app["exit_code"], app["signal"]) for app in box.json("status", "pod")["pod"]["apps"]}
    assert apps == {"first": (3, None), "second": (42, None), "third": (143, "SIGTERM"), "fourth": (137, "SIGKILL")}
    _collect(box)


def test_restarts_signals_and_a_stop_that_not_all_obey(box: Podium) -> None:
    count = "n=$(cat /n 2>/dev/null || echo 0); echo $((n+1)) >/n; echo run-$n;"
    uuid = start(
        box,
        (
            shell("failing", f"{count} [ $n = 2 ]", "--restart", "on-failure"),
            shell("always", f"trap : USR1; {count} sleep 0.2", "--restart", "always"),
            shell("hearing", f"trap 'echo got-usr1' USR1; trap 'echo bye; exit 0' TERM; echo hears; {WAIT}"),
            shell("deaf", f"trap 'echo usr1' USR1; trap 'echo no' TERM; echo deaf; {WAIT}"),
        ),
    )
    logged(box, uuid, "failing: run-2", "always: run-2", "hears", "deaf")
    box("kill", "--app", "hearing", "--signal", "USR1", uuid)
    logged(box, uuid, "hearing: got-usr1")
    box("kill", "--signal", "USR1", uuid)
    logged(box, uuid, "deaf: usr1")
    box("stop", "--timeout", "2s", uuid)
    ended = Ended(box, uuid)
    assert ended.printed["failing"] == ["run-0", "run-1", "run-2"], "it was left alone once it had succeeded"
    assert (ended.apps["failing"]["exit_code"], ended.apps["failing"]["restarts"]) == (0, 2)
    assert ended.apps["always"]["restarts"] >= 2
    assert ended.printed["hearing"][-1] == "bye" and ended.apps["hearing"]["exit_code"] == 0
    assert ended.printed["deaf"][:3] == ["deaf", "usr1", "no"], "it got one signal, and was asked first"
    assert (ended.apps["deaf"]["exit_code"], ended.apps["deaf"]["signal"]) == (137, "SIGKILL")
    _collect(box)


def test_a_guest_of_the_size_that_was_asked_for(box: Podium) -> None:
    """The pod's memory and processors are the machine's; the kernel's own share comes on top (docs/kvm.md)."""
    fill = "dd if=/dev/zero of=/dev/null bs=%dM count=1 2>/dev/null; echo filled-$?"
    uuid = start(box, [shell("only", f"{fill % 230}; {fill % 270}; nproc; exec sleep 1000",
                             *("--memory", "256M", "--cpu", "1500m"))])  # fmt: skip
    logged(box, uuid, "filled-0\nfilled-137\n")
    until(lambda: len(box.out("logs", uuid).split()) == 3, "the number of processors")
    assert box.out("logs", uuid).split()[2] == str(min(2, os.cpu_count() or 1))
    pod = box.json("status", uuid)["pod"]
    facts = pod["facts"]
    assert facts["accelerator"] in ("kvm", "tcg") and facts["accelerator_reason"]
    assert facts["guest_memory_kib"] > 256_000_000 >> 10 and facts["guest_kernel"]
    shown = box.out("status", uuid)
    for line in (f"accelerator:  {facts['accelerator']} (", f"guest kernel: {facts['guest_kernel']}", "guest memory: "):
        assert line in shown, shown
    console = box.out("logs", "--console", uuid)
    box("stop", "--force", uuid)
    (app,) = box.json("status", "--wait", uuid)["pod"]["apps"]
    assert (app["exit_code"], app["signal"]) == (137, "SIGKILL")
    # The kernel tells on the console whom it killed, and what it told is there when the machine has gone.
    assert "Memory cgroup out of memory" in console and box.out("logs", "--console", uuid).startswith(console)
    last = console.splitlines()[-1]
    assert box.out("logs", "--console", "--tail", "1", uuid) == last
    _collect(box)


def test_a_guest_whose_kernel_panics_ends_its_apps_and_says_why(box: Podium) -> None:
    """What an app has printed in the moment of the panic is lost with the guest, so this one waits."""
    panic = "mount -o remount,rw,bind /proc/sysrq-trigger; echo ready; sleep 1; echo c >/proc/sysrq-trigger; sleep 1000"
    done = box("run", *KVM, *shell("mighty", panic, "--caps-retain", "CAP_SYS_ADMIN"), check=None)
    assert done.returncode == 125 and "ready" in done.stdout
    assert ": its kernel panicked: sysrq triggered crash" in done.stderr, done.stderr
    _collect(box)
