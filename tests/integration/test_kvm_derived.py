"""What machines are made of, by effect: a pod boots the kernel that it recorded; a damaged image is made again.

And KVM that seems to work but boots no guest is given up for emulation, which `status` tells.
"""

from __future__ import annotations

import os
import shutil
import stat

import pytest

from podium.sandbox import kernels
from podium_kvm import accelerator
from support import machines
from support.command import Podium
from support.other_host import with_settings

KVM = ("--stage1", "kvm", "--net", "none", "box", "--")


def _copy_of_kernel(test_dir: str) -> tuple[str, str]:
    """A host's kernel of our own, with the modules that guests get; returns its path and its release."""
    found = kernels.choose()
    release = os.path.basename(found).removeprefix("vmlinuz-")
    place = next(modules for boot, modules in kernels.PLACES if found.startswith(boot + "/"))
    os.makedirs(os.path.join(test_dir, "boot"))
    path = shutil.copy(found, os.path.join(test_dir, "boot"))
    shutil.copytree(os.path.join(place, release), os.path.join(test_dir, "lib/modules", release), symlinks=True)
    return path, release


def test_a_pod_boots_its_kernel_and_its_image_after_the_host_s_are_gone(box: Podium, test_dir: str) -> None:
    kernel, release = _copy_of_kernel(test_dir)
    podium = with_settings(box, test_dir, f'kernel = "{kernel}"')
    uuid = podium.out("prepare", *KVM, "sh", "-c", "uname -r; cat /etc/hostname")
    with open(kernel, "wb") as f:  # an upgrade to a kernel that does not even boot
        f.write(b"upgraded")
    shutil.rmtree(os.path.join(test_dir, "lib"))
    assert podium("prepare", *KVM, "true", check=None).returncode  # a new pod would get that one
    podium("image", "gc", "--grace-period", "0s")
    folder = os.path.join(podium.dir, "erofs")
    (name,) = (n for n in os.listdir(folder) if n.endswith(".img"))
    image = os.path.join(folder, name)
    before = os.stat(image)
    assert stat.S_IMODE(before.st_mode) == 0o444
    os.chmod(image, 0o644)
    with open(image, "r+b") as f:  # as a bad disk does: the superblock is none
        f.write(bytes(4096))
    assert podium("run-prepared", uuid).stdout.splitlines() == [release, "second layer"]
    assert os.stat(image).st_ino != before.st_ino  # made again
    for _ in range(2):
        again = os.stat(image)
        podium("prepare", "--name", "x", *KVM, "true", check=None)
        assert os.stat(image).st_ino == again.st_ino  # and not a third time
    podium("gc", "--grace-period", "0s", "--expire-prepared", "0s")
    podium("image", "rm", "box")
    podium("image", "gc", "--grace-period", "0s")
    assert os.listdir(folder) == [] and not [n for n in os.listdir(os.path.join(podium.dir, "kernels")) if release in n]


def test_kvm_that_boots_no_guest_is_given_up(box: Podium, test_dir: str) -> None:
    """The device of this host opens and makes machines, but runs none; the verdict is made to say otherwise."""
    verdict = accelerator.ask()
    if verdict is None or verdict[0] or not os.path.exists(accelerator.DEVICE):
        pytest.skip("KVM works on this host, or there is no /dev/kvm")
    podium = with_settings(box, test_dir, 'boot-timeout = "30s"')
    podium("prepare", *KVM, "true")
    key = accelerator._key(os.stat(accelerator.DEVICE))
    accelerator._write(os.path.join(podium.dir, "cache", "kvm"), key, (True, "a guest ran"))
    uuid = podium.out("run", "-d", *KVM, "sleep", "1000")
    facts = machines.status(podium, uuid)["facts"]
    assert facts["accelerator"] == "tcg" and facts["accelerator_reason"].startswith("with kvm, "), facts
    told = " ".join(podium.out("status", uuid).split())
    assert "accelerator: tcg (with kvm, " in told and "guest kernel: " in told
    podium("stop", uuid)
    assert accelerator.probe(podium.dir) == (False, facts["accelerator_reason"])  # the next goes to TCG at once
    podium("gc", "--grace-period", "0s", "--expire-prepared", "0s")
    assert not podium.pods()
