"""Write the next data directory of the corpus: `python tests/support/make_corpus.py format-N [PREFIX…]`.

It is what today's podium writes: an image from each importer, and pods of fly, nspawn (without and with a network), kvm
and the sample plugin (in two versions) that are prepared, exited, marked, gc-failed, and running when all was killed.
Prefixes of pods' names choose some of the stage1s (`kvm`). Run it once for each format, from a clean checkout of the
commit that lands the format; what is in tests/corpus/ is never written again.
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

from podium.linux import cgroup
from support import corpus, disk, images, oci
from support.distributions import Venv, make_plugin_dist
from support.sample import sample_code

# Tested as it was written: it ends once it was given a line, so that it can be entered meanwhile.
READY = "echo ran; read line; exit 5"


class _Maker:
    def __init__(self, work: str) -> None:
        self.work = work
        self.data = os.path.join(work, "data")
        self.venv = Venv.make(os.path.join(work, "venv"))

    def podium(self, *args: str, code: int = 0, **env: str) -> str:
        argv = [self.venv.podium, "--dir", self.data, *args]
        environment = {**os.environ, "SAMPLE_TRACE": os.path.join(self.work, "trace"), **env}
        done = subprocess.run(
            argv, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
        )
        assert done.returncode == code, f"{args} exited {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout.strip()

    def state(self, name: str) -> str:
        return str(json.loads(self.podium("status", name, "--format", "json"))["pod"]["state"])

    def sample(self, version: str) -> None:
        self.venv.install(make_plugin_dist(os.path.join(self.work, "wheels"), "sample", version, sample_code(version)))

    def images(self) -> None:
        """One from each importer, all of the same files, which pack well."""
        rootfs = images.make_busybox_rootfs(os.path.join(self.work, "rootfs"))
        self.podium("image", "import", images.make_busybox_oci(rootfs, self.work), "--name", "box")
        manifest = json.dumps({"acKind": "ImageManifest", "acVersion": "0.8.11", "name": "example.com/aci"}).encode()
        self.podium("image", "import", images.write_aci(os.path.join(self.work, "a.aci"), manifest, rootfs))
        saved = oci.write_docker_archive(os.path.join(self.work, "saved.tar"), [oci.layer_of(rootfs)], images.RUN)
        self.podium("image", "import", saved, "--name", "docker")
        self.podium("image", "import", rootfs, "--name", "folder", "--exec", "/bin/sh")
        tar = os.path.join(self.work, "rootfs.tar")
        subprocess.run(["tar", "--create", "--file", tar, "--directory", rootfs, "etc", "bin"], check=True)
        self.podium("image", "import", tar, "--name", "tar", "--exec", "/bin/sh")

    def collected_in_vain(self, stage1: tuple[str, ...], prefix: str) -> None:
        """A pod that holds a file outside, of which nothing proves that it is the pod's, as long as that is there."""
        self.podium("run", *stage1, "--name", f"{prefix}-failed", "box", "--", "sh", "-c", "exit 0")
        folder = json.loads(self.podium("inspect", f"{prefix}-failed"))["path"]
        foreign = os.path.join(self.work, "foreign")
        with open(foreign, "w", encoding="ascii"):
            disk.hold(folder, "path", foreign)
        self.podium("rm", f"{prefix}-failed", code=1)
        assert self.state(f"{prefix}-failed") == "gc-failed"

    def marked(self, stage1: tuple[str, ...], prefix: str) -> None:
        self.podium("run", *stage1, "--name", f"{prefix}-marked", "box", "--", "true")
        self.podium("gc", "--mark-only")
        assert self.state(f"{prefix}-marked") == "exited-garbage"

    def pods(self, stage1: tuple[str, ...], prefix: str) -> None:
        """One pod in each state that is older than any gc."""
        new = (*stage1, "--label", "corpus=yes")
        self.podium("prepare", *new, "--name", f"{prefix}-prepared", "box", "--", "sh", "-c", READY)
        if prefix == "kvm":  # to be run where its kernel is not to be had
            self.podium("prepare", *new, "--name", f"{prefix}-homeless", "box", "--", "sh", "-c", READY)
        self.podium("run", *new, "--name", f"{prefix}-exited", "box", "--", "sh", "-c", "exit 3", code=3)
        self.podium("run", *new, "--name", f"{prefix}-crashed", "-d", "box", "--", "sleep", "1000")
        pod = json.loads(self.podium("status", f"{prefix}-crashed", "--format", "json"))["pod"]
        os.kill(pod["pid"], signal.SIGKILL)
        cgroup.kill(f"podium/{pod['uuid']}")  # as in a machine that stops, all of it ends
        deadline = time.monotonic() + 60
        while self.state(f"{prefix}-crashed") != "exited" and time.monotonic() < deadline:
            time.sleep(0.2)
        assert self.state(f"{prefix}-crashed") == "exited"


# prefix → the options that choose its stage1 and networks; `old` is the first version of the sample plugin
STAGE1S = {
    "new": ("--stage1", "sample"),
    "fly": ("--stage1", "fly"),
    "nspawn": ("--stage1", "nspawn", "--net", "none"),
    "net": ("--stage1", "nspawn", "--net", "default"),
    "kvm": ("--stage1", "kvm", "--net", "none"),
}


def make(name: str, prefixes: tuple[str, ...]) -> str:
    """Write corpus/<name>.tar.xz with pods of these stage1s; returns its path."""
    target = os.path.join(corpus.FOLDER, name + ".tar.xz")
    assert not os.path.exists(target), f"{target} is frozen"
    with tempfile.TemporaryDirectory(prefix="podium-corpus-", dir="/var/tmp") as work:
        maker = _Maker(work)
        try:
            _fill(maker, prefixes)
            _pack(work, target + ".new")
        finally:
            foreign = os.path.join(work, "foreign")
            if os.path.exists(foreign):
                os.unlink(foreign)
            maker.podium("gc", "--grace-period", "0s", "--expire-prepared", "0s")
        os.rename(target + ".new", target)
    corpus.add()
    return target


def _fill(maker: _Maker, prefixes: tuple[str, ...]) -> None:
    chosen = {prefix: STAGE1S[prefix] for prefix in prefixes}
    old = {"old": STAGE1S["new"]} if "new" in prefixes else {}
    maker.images()
    for version, stage1s in (("1.0", old), ("2.0", chosen)):
        maker.sample(version)
        for prefix, stage1 in stage1s.items():
            maker.collected_in_vain(stage1, prefix)
            maker.marked(stage1, prefix)
    for version, stage1s in (("1.0", old), ("2.0", chosen)):
        maker.sample(version)
        for prefix, stage1 in stage1s.items():
            maker.pods(stage1, prefix)


def _pack(work: str, target: str) -> None:
    """Pack all but guests' kernels themselves, which are a distribution's, and 60 MB: their records stay."""
    argv = ["tar", "--create", "--xz", "--numeric-owner", "--xattrs", "--sort=name", "--file", target]
    argv += ["--exclude=data/kernels/*/vmlinux", "--sparse"]
    environment = {**os.environ, "XZ_OPT": "--lzma2=preset=6,dict=64MiB"}
    subprocess.run([*argv, "--directory", work, "data"], env=environment, check=True)


if __name__ == "__main__":
    print(make(sys.argv[1], tuple(sys.argv[2:]) or tuple(STAGE1S)))
