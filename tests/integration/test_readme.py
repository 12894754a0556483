"""README's tour, executed line by line: what each kind of user would type."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Callable

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
pip() {{ {binaries}/python -m pip --disable-pip-version-check "$@" --no-deps --no-build-isolation --no-index; }}
trap 'echo "FAILED: $BASH_COMMAND"' ERR
"""
_AFTERWARDS = """
until [ "$(wc -l < /var/log/podium-exits)" = 1 ]; do sleep 0.1; done
cat /var/log/podium-exits
podium gc --grace-period 0s --expire-prepared 0s
"""


def _tours() -> list[str]:
    with open(os.path.join(REPOSITORY, "README.md"), encoding="utf-8") as f:
        tour = f.read().partition("\n## A tour\n")[2].partition("\n## ")[0]
    return re.findall(r"^```\n(.*?)^```$", tour, re.MULTILINE | re.DOTALL)


def test_the_tour(podium: Podium, venv_with: Callable[..., Venv], test_dir: str) -> None:
    user, automation, author = _tours()
    assert all(len(tour.splitlines()) <= 10 for tour in (user, automation, author))
    venv = venv_with()
    venv.link(*TOOLS)
    work, scratch = os.path.join(test_dir, "tour"), os.path.join(test_dir, "scratch")
    os.mkdir(work)
    os.mkdir(scratch)
    words = {"scratch": scratch, "config": podium.config, "binaries": f"{venv.path}/bin", "data": podium.dir}
    parts = [f"echo @@@\n{part}" for part in (user, automation, author, _AFTERWARDS)]
    done = subprocess.run(
        ["unshare", "--mount", "--propagation", "private", "bash", "-c", _PREPARE.format(**words) + "".join(parts)],
        cwd=work,
        # The suite is run whole by the guide's test: here it is the command that counts.
        env={**podium.environment(), "PYTEST_ADDOPTS": "-k 'test_hooks_are or test_exit_code'"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    told = f"{done.stdout}\n{done.stderr}"
    before, used, automated, authored, exits = done.stdout.split("@@@\n")
    assert before == "", told
    failed = re.findall("FAILED: (.*)", told)
    assert len(failed) == 2 and all("exit 7" in command for command in failed), told
    assert "\n7\n" in used and re.search(r" web +running ", used) and re.search(r"^ *\d+ .*sleep 1000", used, re.M), (
        told
    )
    assert "exits" in automated and automated.count('"kind":"pod-exited"') == 2 and "\n[]\n" in automated, told
    assert "sample: usable" in authored and "2 passed" in authored and "hook load of sample" not in authored, told
    assert "hook gc of sample 0.1.0" in done.stderr and '"name": "sample"' in authored, told
    codes = [json.loads(line)["details"]["exit_code"] for line in exits.splitlines() if line.startswith("{")]
    assert codes == [7], told  # who is installed later is told of what happens from then on
    assert podium.pods() == {}
