"""Guests that do not boot, for real: each says why, with the last lines of its console. And what is refused before."""

from __future__ import annotations

import gzip
import os
import shutil
import signal
import stat
from collections.abc import Callable

import pytest

from podium_kvm.initrd import archive
from support.command import Podium
from support.guest import KVM, isolators
from support.machines import until

pytestmark = pytest.mark.usefixtures("host_guard")
FILE = stat.S_IFREG | 0o755


def _fails_to_boot(box: Podium, damage: Callable[[str], None], *options: str) -> str:
    """What a pod says whose files were altered after it was prepared; its run must fail."""
    uuid = _prepared(box, damage, *options)
    said = box("run-prepared", uuid, check=125).stderr
    (app,) = box.json("status", uuid)["pod"]["apps"]
    assert app["exit_code"] == 125 and app["message"] in said.replace("\n  ", "\n"), said
    box("gc", "--grace-period", "0s")
    assert not box.pods()
    return said


def _prepared(box: Podium, damage: Callable[[str], None], *options: str) -> str:
    """A pod whose initial file system was altered."""
    uuid = box.out("prepare", *KVM, *options, "box", "--", "true")
    damage(os.path.join(box.json("inspect", uuid)["path"], "stage1", "vm", "initrd"))
    return uuid


def _with(*entries: tuple[str, int, bytes]) -> Callable[[str], None]:
    """Put files over those of the initial file system: the kernel unpacks one archive after the other."""

    def damage(path: str) -> None:
        with open(path, "ab") as f:
            f.write(archive(entries))

    return damage


def test_a_module_that_is_none(box: Podium) -> None:
    said = _fails_to_boot(box, _with(("modules/overlay.ko", FILE, b"no module")))
    assert "before the guest had booted: kernel module overlay.ko can't be loaded; the console's last lines:" in said
    assert "can't insert '/modules/overlay.ko'" in said, "what insmod said is there, too"


def test_a_kernel_that_panics(box: Podium) -> None:
    said = _fails_to_boot(box, lambda path: os.truncate(path, 4096))
    assert "its kernel panicked: VFS: Unable to mount root fs" in said, said
    assert "Can't open blockdev" in said and "Call Trace" not in said, (
        "what was said before it is told, its trace is not"
    )


def test_a_guest_whose_memory_does_not_hold_what_it_boots_from(box: Podium) -> None:
    def fill(path: str) -> None:
        """Compressed, so that QEMU can still load it."""
        with open(path, "ab") as f:
            f.write(gzip.compress(archive([("large", FILE, bytes(200 << 20))]), 1))

    said = _fails_to_boot(box, fill)
    assert "Initramfs unpacking failed: write error" in said and "its kernel panicked: " in said, said


def test_a_guest_that_runs_out_of_memory_while_it_boots(box: Podium) -> None:
    eats = b"#!/bin/busybox sh\nx=aaaaaaaa; while :; do x=$x$x; done\n"
    said = _fails_to_boot(box, _with(("init", FILE, eats)))
    assert "its kernel panicked: System is deadlocked on memory" in said, said


def test_what_qemu_refuses_is_told_in_its_words(box: Podium) -> None:
    def fill(path: str) -> None:
        os.truncate(path, 300 << 20)

    said = _fails_to_boot(box, fill)
    assert "qemu: " in said and "initrd" in said, said


HANGS = _with(("init", FILE, b"#!/bin/busybox sh\necho here it hangs >/dev/console\nwhile :; do /bin/sleep 1; done\n"))


def test_a_guest_that_says_nothing_in_time(box: Podium, test_dir: str) -> None:
    config = os.path.join(test_dir, "kvm.toml")
    with open(box.config, encoding="utf-8") as old, open(config, "w", encoding="utf-8") as new:
        new.write(f'{old.read()}\n[kvm]\nboot-timeout = "8s"\n')
    said = _fails_to_boot(box.using(box.binary, config), HANGS)
    assert "the guest did not boot within 8 s" in said and "boot-timeout" in said, said


@pytest.mark.parametrize(("how", "code"), [("stop", 143), ("interrupt", 130), ("force", 137)])
def test_a_pod_that_is_ended_while_its_guest_boots(box: Podium, how: str, code: int) -> None:
    """By its supervisor, at once: what the boot's time limit would end was killed, and gives 125."""
    uuid = _prepared(box, HANGS)
    console = os.path.join(box.json("inspect", uuid)["path"].replace("/prepared/", "/run/"), "logs", "_console")
    running = box.start("run-prepared", uuid)
    try:
        until(lambda: "here it hangs" in _read(console), "the guest has begun to boot")
        if how == "stop":
            box("stop", uuid)
        elif how == "force":
            box("stop", "--force", uuid)
        else:
            running.send_signal(signal.SIGINT)
        said = running.communicate(timeout=60)[1]
    finally:
        running.kill()
        running.communicate()
    assert running.returncode == code and "it was stopped before it was started" in said, said
    pod = box.json("status", uuid)["pod"]
    assert (pod["state"], pod["exit_code"]) == ("exited", code)
    (app,) = pod["apps"]
    assert (app["exit_code"], app["signal"]) == (code, signal.Signals(code - 128).name)
    box("gc", "--grace-period", "0s")
    assert not box.pods()


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as f:
            return f.read()
    except FileNotFoundError:
        return ""


def test_a_kernel_that_is_gone(box: Podium) -> None:
    said = _fails_to_boot(box, lambda _: shutil.rmtree(os.path.join(box.dir, "kernels")))
    assert "kernel sha256:" in said and "is missing or damaged" in said and "prepare the pod again" in said


@pytest.mark.parametrize(
    ("pod", "app", "named"),
    [
        (("--net", "host"), (), "network:host"),
        (("--private-users",), (), "private-users"),
        ((), ("--user", "nobody-there"), "user 'nobody-there'"),
        ((), ("--seccomp", "mode=remove,nosuchcall"), "nosuchcall"),
        (("--hostname", "a" * 65), (), "can't be a host name"),
        (("--hostname", "-x"), (), "can't be a host name"),
        (("--hostname", "a b"), (), "can't be a host name"),
    ],
)
def test_what_is_refused_at_prepare(box: Podium, pod: tuple[str, ...], app: tuple[str, ...], named: str) -> None:
    net = () if "--net" in pod else ("--net", "none")
    done = box("prepare", "--stage1", "kvm", *net, *pod, "box", *app, check=2)
    assert named in done.stderr, done.stderr
    assert not box.pods()


def test_isolators_that_are_refused_at_prepare(box: Podium, busybox_rootfs: str, test_dir: str) -> None:
    block = {"default": True, "limit": "1M"}
    for kind in ("resource/block-bandwidth", "resource/block-iops"):
        isolators(box, test_dir, "asking", busybox_rootfs, isolators=[{"name": kind, "value": block}])
        done = box("prepare", *KVM, "asking", check=2)
        assert f"isolator:{kind.removeprefix('resource/')}" in done.stderr and "volumes" in done.stderr, done.stderr
    for name, value in (("one", "70"), ("two", "71")):
        isolators(box, test_dir, name, busybox_rootfs, isolators=[{"name": "os/unix/sysctl", "value": {"a.b": value}}])
    assert "'70' and '71' in one pod" in box("prepare", *KVM, "one", "---", "two", check=2).stderr
    many = [word for number in range(9) for word in ("---", "box", "--name", f"a{number}")]
    assert "at most 8 apps" in box("prepare", *KVM, *many[1:], check=2).stderr
    assert not box.pods()


def test_a_kernel_parameter_that_the_guest_lacks(box: Podium, busybox_rootfs: str, test_dir: str) -> None:
    asked = [{"name": "os/unix/sysctl", "value": {"net.no.such": "1"}}]
    isolators(box, test_dir, "asking", busybox_rootfs, isolators=asked)
    done = box("run", *KVM, "asking", "--", "-c", "true", check=125)
    assert "before the guest had booted: this kernel has no parameter /proc/sys/net/no/such" in done.stderr
    box("gc", "--grace-period", "0s")
