"""The table [kvm] of the configuration, and what a machine that can't be had or does not boot says."""

from __future__ import annotations

import os

import pytest

from podium_kvm import accelerator
from support.command import Podium

pytestmark = pytest.mark.usefixtures("host_guard")
RUN = ("run", "--stage1", "kvm", "--net", "none", "box", "--", "true")


def _set(box: Podium, test_dir: str, line: str) -> tuple[str, str]:
    path = os.path.join(test_dir, "kvm.toml")
    with open(box.config, encoding="utf-8") as old, open(path, "w", encoding="utf-8") as new:
        new.write(f"{old.read()}\n[kvm]\n{line}\n")
    return "--config", path


def test_a_guest_that_does_not_boot_in_time_is_ended(box: Podium, test_dir: str) -> None:
    done = box(*_set(box, test_dir, 'boot-timeout = "300ms"'), *RUN, check=125)
    assert "the guest did not boot within 0.3 s" in done.stderr


def test_a_kernel_that_is_not_there_is_refused_at_prepare(box: Podium, test_dir: str) -> None:
    done = box(*_set(box, test_dir, f'kernel = "{test_dir}/vmlinuz"'), *RUN, check=125)
    assert f"kernel {test_dir}/vmlinuz can't be read" in done.stderr
    assert not box.pods()


def test_an_accelerator_must_be_known(box: Podium, test_dir: str) -> None:
    done = box(*_set(box, test_dir, 'accel = "warp"'), *RUN, check=125)
    assert "no accelerator is called 'warp'" in done.stderr


def test_kvm_is_not_replaced_where_it_alone_will_do(box: Podium, test_dir: str) -> None:
    if (accelerator.ask() or (False, ""))[0]:
        pytest.skip("KVM works on this host")
    done = box(*_set(box, test_dir, 'accel = "kvm"'), *RUN, check=125)
    assert "KVM can't be used" in done.stderr


def test_check_names_the_guest_s_kernel(box: Podium) -> None:
    assert "guest kernel: /" in box.out("stage1", "check", "kvm")
