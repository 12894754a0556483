"""README's tour, executed as it stands: what each kind of user would type."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from typing import NamedTuple

from support.command import Podium
from support.distributions import REPOSITORY, TOOLS, Venv

# The host's /etc and /var/log are read; what is written there is gone with the mount namespace.
_PREPARE = """
set -u
mount -t tmpfs tour {scratch}
for folder in etc var/log; do
    own={scratch}/$folder
    mkdir -p $own/upper $own/work
    mount -t overlay overlay -o lowerdir=/$folder,upperdir=$own/upper,workdir=$own/work /$folder
done
mkdir -p /etc/podium /etc/systemd/system
cp {config} /etc/podium/config.toml
export PATH={binaries}:$PATH PODIUM_DIR={data}
pip() {{ {python} -m pip --python {binaries}/python -q "$@" --no-deps --no-build-isolation --no-index; }}
trap 'echo "FAILED: $BASH_COMMAND"' ERR
"""
_TO_THE_END = """
podium run --stage1 fly --net host demo/busybox:1 --exec /bin/sh -- -c 'exit 3'
for i in $(seq 300); do [ -s /var/log/podium-exits ] && break; sleep 0.1; done
cat /var/log/podium-exits
"""
_COLLECT = "podium gc --grace-period 0s --expire-prepared 0s\n"


class Told(NamedTuple):
    """What the parts of a tour have printed, what commands failed, and all of it."""

    parts: list[str]
    failed: list[str]
    all: str


def _tours() -> list[str]:
    with open(os.path.join(REPOSITORY, "README.md"), encoding="utf-8") as f:
        tour = f.read().partition("\n## A tour\n")[2].partition("\n## ")[0]
    return re.findall(r"^```\n(.*?)^```$", tour, re.MULTILINE | re.DOTALL)


def _typed(podium: Podium, test_dir: str, binaries: str, *parts: str, **environment: str) -> Told:
    work, scratch = os.path.join(test_dir, "tour"), os.path.join(test_dir, "scratch")
    os.mkdir(work)
    os.mkdir(scratch)
    words = {"scratch": scratch, "config": podium.config, "data": podium.dir}
    script = _PREPARE.format(**words, binaries=binaries, python=sys.executable)
    done = subprocess.run(
        ["unshare", "--mount", "--propagation", "private", "bash", "-c", "echo @@@\n".join([script, *parts])],
        cwd=work,
        env={**podium.environment(), **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    told = f"{done.stdout}\n{done.stderr}"
    return Told(done.stdout.split("@@@\n")[1:], re.findall("FAILED: (.*)", done.stdout), told)


def test_each_has_ten_lines() -> None:
    assert [len(tour.splitlines()) <= 10 for tour in _tours()] == [True] * 3


def test_the_user_s_and_automation_s(podium: Podium, test_dir: str) -> None:
    user, automation, _ = _tours()
    binaries = os.path.dirname(podium.binary)
    told = _typed(podium, test_dir, binaries, user, automation, _TO_THE_END, _COLLECT)
    used, automated, exits, _ = told.parts
    assert [re.findall(r"exit \d", command) for command in told.failed] == [["exit 7"], ["exit 3"]], told.all
    assert "\n7\n" in used and re.search(r" web +running ", used), told.all
    assert re.search(r"^d.* bin$", used, re.MULTILINE), told.all  # in the pod
    assert "exits" in automated and automated.count('"kind":"pod-exited"') == 2 and "[]\n" in automated, told.all
    codes = [json.loads(line)["details"]["exit_code"] for line in exits.splitlines() if line.startswith("{")]
    assert codes == [3], told.all  # who is installed later is told of what happens from then on
    assert podium.pods() == {}


def test_the_author_s(podium: Podium, venv_with: Callable[..., Venv], test_dir: str, busybox_rootfs: str) -> None:
    venv = venv_with()
    venv.link(*TOOLS)
    podium("image", "import", busybox_rootfs, "--name", "demo/busybox:1", "--exec", "/bin/sh")
    # The suite is run whole by the guide's test: here it is the command that counts.
    told = _typed(podium, test_dir, f"{venv.path}/bin", _tours()[2], _COLLECT, PYTEST_ADDOPTS="-k test_hooks_are")
    authored = told.parts[0]
    assert [re.findall(r"exit \d", command) for command in told.failed] == [["exit 7"]], told.all
    assert "sample: usable" in authored and "1 passed" in authored and '"name": "sample"' in authored, told.all
    assert "hook load of" not in authored and podium.pods() == {}, told.all
