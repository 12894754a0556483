"""What a host lacks for nspawn is told by name: by `stage1 check`, at prepare if possible, else by a run that fails."""

from __future__ import annotations

import os
import shlex

import pytest

from support.command import Podium

FAILS = "#!/bin/sh\necho 'no container today' >&2\nexit 1\n"
# A root folder on another mount than that of the mount namespace's root, and one that is no mount point.
CHROOT = "mount --rbind / {at} && exec chroot {at}"
BARE_CHROOT = (
    "mount -t tmpfs tmpfs {at} && mkdir {at}/root && cd {at}/root && for each in /*; do"
    ' if [ -L "$each" ]; then cp -a "$each" .;'
    ' elif [ -d "$each" ]; then mkdir ".$each"; mount --rbind "$each" ".$each"; fi;'
    " done; exec chroot {at}/root"
)


def _where(box: Podium, folder: str, setup: str) -> Podium:
    """podium in a mount namespace of its own, in which shell commands have done something before they execute it."""
    script, inside = os.path.join(folder, "podium-there"), shlex.quote(f'{setup} {box.binary} "$@"')
    with open(script, "w", encoding="utf-8") as f:
        f.write(f'#!/bin/sh\nexec unshare --mount sh -c {inside} sh "$@"\n')
    os.chmod(script, 0o755)
    return box.using(script)


def _lacks(podium: Podium, stage1: str = "nspawn") -> dict[str, str]:
    """What `stage1 check` says is missing: name of the finding → all that it says."""
    (checked,) = podium.json("stage1", "check", stage1, check=None)["plugins"]
    lacking = {f["name"]: f"{f['message']}: {f['hint']}" for f in checked["findings"] if f["required"] and not f["ok"]}
    assert checked["usable"] is not bool(lacking)
    return lacking


@pytest.mark.parametrize(
    ("program", "package"), [("systemd-nspawn", "systemd-container"), ("busybox", "busybox-static")]
)
def test_a_program_that_is_not_there(box: Podium, test_dir: str, program: str, package: str) -> None:
    hidden = f"for at in /usr/bin/{program} /bin/{program}; do mount --bind /dev/null $at; done; exec"
    there = _where(box, test_dir, hidden)
    assert _lacks(there) == {program: f"not found: apt-get install {package}"}
    said = there("prepare", "--net", "none", "box", check=7).stderr
    assert f"{program} is not installed" in said and package in said and not box.pods()


def test_nspawn_that_fails_has_the_last_word(box: Podium, test_dir: str) -> None:
    failing = os.path.join(test_dir, "failing")
    with open(failing, "w", encoding="ascii") as f:
        f.write(FAILS)
    os.chmod(failing, 0o755)
    there = _where(box, test_dir, f"mount --bind {failing} /usr/bin/systemd-nspawn && exec")
    assert "was ready: no container today\n" in there("run", "--rm", "--net", "none", "box", check=125).stderr


def test_root_without_its_privileges(box: Podium, test_dir: str) -> None:
    there = _where(box, test_dir, 'exec capsh --drop=cap_sys_admin,cap_chown -- -c \'exec "$0" "$@"\'')
    assert "uid 0, without CAP_SYS_ADMIN, CAP_CHOWN" in _lacks(there)["root"]
    assert "podium may mount nothing" in there("prepare", "--net", "none", "box", check=7).stderr
    uuid = box.out("prepare", "--net", "none", "box", "--", "true")
    assert "podium may make no mount namespace" in there("run-prepared", uuid, check=125).stderr
    box("run", "--rm", "--net", "none", "box", "--", "true")


@pytest.mark.parametrize("setup", [CHROOT, BARE_CHROOT])
def test_a_chroot(box: Podium, test_dir: str, setup: str) -> None:
    at = os.path.join(test_dir, "at")
    os.mkdir(at)
    there, bare = _where(box, test_dir, setup.format(at=at)), setup == BARE_CHROOT
    assert set(_lacks(there)) == {"chroot", *(("mounts",) if bare else ())}
    assert set(_lacks(there, "fly")) == ({"mounts"} if bare else set())
    told = "the root folder is no mount point, as in a chroot" if bare else "podium runs in a chroot"
    assert told in there("run", "--rm", "--net", "none", "box", "--", "true", check=125).stderr
    there("run", "--rm", "--stage1", "fly", "--net", "host", "box", "--", "true", check=125 if bare else 0)
