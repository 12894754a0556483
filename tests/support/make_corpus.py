"""Write the next data directory of the corpus: `python tests/support/make_corpus.py format-1`.

It is what today's podium writes: an image, and pods of fly, nspawn and the sample plugin (in two versions) that are
prepared, exited, marked, gc-failed, and running when the machine stopped. Run it once for each format, from a clean
checkout of the commit that lands the format; what is in tests/corpus/ is never written again.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from support import corpus, images
from support.distributions import Venv, make_plugin_dist
from support.sample import sample_code


class _Maker:
    def __init__(self, work: str) -> None:
        self.work = work
        self.data = os.path.join(work, "data")
        self.venv = Venv.make(os.path.join(work, "venv"))

    def podium(self, *args: str, code: int = 0, **env: str) -> str:
        argv = [self.venv.podium, "--dir", self.data, *args]
        environment = {**os.environ, "SAMPLE_TRACE": os.path.join(self.work, "trace"), **env}
        done = subprocess.run(argv, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == code, f"{args} exited {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout.strip()

    def sample(self, version: str) -> None:
        self.venv.install(make_plugin_dist(os.path.join(self.work, "wheels"), "sample", version, sample_code(version)))

    def pods(self, stage1: str, prefix: str) -> None:
        """One pod in each state that outlives podium."""
        new = ("--stage1", stage1, "--label", "corpus=yes")
        self.podium("prepare", *new, "--name", f"{prefix}-prepared", "box", "--", "sh", "-c", "echo ran; exit 5")
        self.podium("run", *new, "--name", f"{prefix}-exited", "box", "--", "sh", "-c", "exit 3", code=3)
        self.podium("run", *new, "--name", f"{prefix}-crashed", "-d", "box", "--", "sleep", "1000")
        pod = json.loads(self.podium("status", f"{prefix}-crashed", "--format", "json"))["pod"]
        os.kill(pod["pid"], signal.SIGKILL)
        deadline = time.monotonic() + 20
        while os.path.exists(f"/proc/{pod['apps'][0]['pid']}") and time.monotonic() < deadline:
            time.sleep(0.05)


def make(name: str) -> str:
    """Write corpus/<name>.tar.xz; returns its path."""
    target = os.path.join(corpus.FOLDER, name + ".tar.xz")
    assert not os.path.exists(target), f"{target} is frozen"
    with tempfile.TemporaryDirectory(prefix="podium-corpus-", dir="/var/tmp") as work:
        maker = _Maker(work)
        rootfs = images.make_busybox_rootfs(os.path.join(work, "rootfs"))
        maker.podium("image", "import", images.make_busybox_oci(rootfs, work), "--name", "box")
        maker.sample("1.0")
        maker.pods("sample", "old")
        maker.podium("run", "--stage1", "sample", "--name", "failed", "box", "--", "true")
        failing = ("gc", "--grace-period", "0s")
        maker.podium("rm", "old-exited", "old-crashed")
        maker.podium(*failing, code=6, SAMPLE_FAIL="gc")
        maker.sample("2.0")
        for stage1, prefix in (("sample", "new"), ("fly", "fly"), ("nspawn", "nspawn")):
            maker.pods(stage1, prefix)
        maker.podium("run", "--stage1", "fly", "--name", "marked", "box", "--", "true")
        maker.podium("gc", "--mark-only")
        argv = ["tar", "--create", "--xz", "--numeric-owner", "--xattrs", "--sort=name", "--file", target]
        subprocess.run([*argv, "--directory", work, "data"], env={**os.environ, "XZ_OPT": "-9e"}, check=True)
        maker.podium("gc", "--grace-period", "0s", "--expire-prepared", "0s")
    corpus.add()
    return target


if __name__ == "__main__":
    print(make(sys.argv[1]))
