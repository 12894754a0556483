"""Virtual machines on hosts unlike this one: KVM that hangs; QEMU, virtiofsd and kernel of the next Debian, for real.

They take minutes, or packages that CI has no need of: PODIUM_TEST_FULL=1 runs them.
"""

from __future__ import annotations

import glob
import os

import pytest

from podium.linux import cgroup
from podium_kvm import accelerator
from support import machines
from support.command import Podium
from support.guest import KVM, Ended, shell
from support.other_host import by_its_loader, debian, with_programs, with_settings

pytestmark = [
    pytest.mark.usefixtures("host_guard"),
    pytest.mark.skipif(os.environ.get("PODIUM_TEST_FULL") != "1", reason="minutes; PODIUM_TEST_FULL=1 runs it"),
]
HANGS = """
case " $* " in
    *" -accel kvm "*) exec sleep 1000 ;; # as KVM_RUN does that never returns
esac
exec /usr/bin/qemu-system-x86_64 "$@"
"""


def test_kvm_that_hangs_is_given_up(box: Podium, test_dir: str) -> None:
    """The probe has passed; the guest never says that it has booted, and nothing ends."""
    if not os.path.exists(accelerator.DEVICE):
        pytest.skip("there is no /dev/kvm")
    podium = with_programs(
        with_settings(box, test_dir, 'boot-timeout = "40s"'), test_dir, {"qemu-system-x86_64": HANGS}
    )
    podium("prepare", *KVM, "box")
    key = accelerator._key(os.stat(accelerator.DEVICE))
    accelerator._write(os.path.join(podium.dir, "cache", "kvm"), key, (True, "a guest ran"))
    uuid = podium.out("run", "-d", *KVM, *shell("a", "exec sleep 1000"))
    facts = machines.status(podium, uuid)["facts"]
    why = "with kvm, the guest did not boot within 40 s"
    assert (facts["accelerator"], facts["accelerator_reason"]) == ("tcg", why)
    assert podium.out("enter", uuid, "--", "echo", "there") == "there"
    podium("stop", uuid)
    assert not machines.helpers(podium, uuid, "qemu")
    assert accelerator.probe(podium.dir) == (False, why)  # the next goes to TCG at once
    asked = with_settings(box, test_dir, 'accel = "kvm"')
    assert f"KVM can't be used: {why}" in asked("run", *KVM, "box", check=125).stderr
    podium("gc", "--grace-period", "0s", "--expire-prepared", "0s")
    assert not podium.pods()


def test_the_next_debian_s_qemu_virtiofsd_and_kernel(box: Podium, test_dir: str, busybox_rootfs: str) -> None:
    """Its virtiofsd is that in Rust, whose options are others; its kernel and its QEMU are newer by years."""
    root = debian(test_dir)
    (kernel,) = glob.glob(f"{root}/boot/vmlinuz-*")
    data = (f"-L {root}/usr/share/{name}" for name in ("qemu", "seabios"))
    podium = with_programs(
        with_settings(box, test_dir, f'kernel = "{kernel}"'),
        test_dir,
        {
            "virtiofsd": by_its_loader(root, "usr/libexec/virtiofsd"),
            "qemu-system-x86_64": by_its_loader(root, "usr/bin/qemu-system-x86_64", *data),
        },
    )
    source = os.path.join(test_dir, "a source")
    os.mkdir(source)
    with open(os.path.join(source, "file"), "w", encoding="ascii") as f:
        f.write("of the host\n")
    try_ro = "mount -o remount,rw /r; mount -o remount,rw,bind /r; echo x >/r/y && echo wrote || echo refused"
    share = "stat -c %a.%u.%g /e; cat /h/file; echo new >/h/new; echo x >/e/ready; id -u"
    fill = (
        "until [ -e /in/ready ]; do sleep 0.1; done; cat /in/ready; dd if=/dev/zero of=/t/x bs=1M count=3; echo full-$?"
    )
    uuid = podium.out(
        *("run", "--detach", "--stage1", "kvm", "--net", "default", "--volume", f"h,kind=host,source={source}"),
        *("--volume", f"r,kind=host,source={source},readOnly=true", "--volume", "e,kind=empty,mode=1755,uid=7,gid=8"),
        *("--volume", "t,kind=tmpfs,size=1M,mode=1777"),
        *shell("a", f"{try_ro}; {share}; trap 'exit 42' TERM; while :; do sleep 0.1; done",
               *("--mount", "volume=h,target=/h", "--mount", "volume=r,target=/r", "--mount", "volume=e,target=/e"),
               *("--caps-retain", "CAP_SYS_ADMIN,CAP_DAC_OVERRIDE", "--memory", "24M", "--pids", "40")),
        "---",
        *shell("b", f"{fill}; exec sleep 1000", "--user", "app", "--seccomp", "mode=remove,errno=EPERM,mkdir",
               *("--mount", "volume=e,target=/in", "--mount", "volume=t,target=/t")),
    )  # fmt: skip
    machines.until(
        lambda: all(text in podium("logs", uuid).stdout for text in ("a: 0\n", "b: full-1\n")), "both have printed all"
    )
    facts = machines.status(podium, uuid)["facts"]
    assert f"vmlinuz-{facts['guest_kernel']}" == os.path.basename(kernel), facts
    with open(podium.config, encoding="utf-8") as f:
        parent = f.read().partition('parent = "')[2].partition('"')[0]
    ran = {_command(pid) for pid in cgroup.procs(f"{parent}/{uuid}/_sandbox")}
    assert ran == {f"{root}/usr/libexec/virtiofsd", f"{root}/usr/bin/qemu-system-x86_64"}
    entered = podium("enter", "--app", "b", uuid, "--", "sh", "-c", "cat; id -u; exit 5", input="in\n", check=5)
    assert entered.stdout.split() == ["in", "1000"]
    podium("stop", uuid)
    ended = Ended(podium, uuid)
    assert ended.printed["a"] == ["refused", "1755.7.8", "of the host", "0"], ended.complained
    assert ended.printed["b"] == ["x", "full-1"], ended.complained
    assert (ended.apps["a"]["exit_code"], ended.apps["b"]["signal"]) == (42, "SIGTERM")
    assert sorted(os.listdir(source)) == ["file", "new"]
    podium("gc", "--grace-period", "0s")
    assert not podium.pods()


def _command(pid: int) -> str:
    """The program that a loader executes: the word after its --library-path."""
    with open(f"/proc/{pid}/cmdline", encoding="utf-8") as f:
        return f.read().split("\0")[3]
