"""Real images: busybox from Debian's busybox-static, and a minimal Debian."""

from __future__ import annotations

import fcntl
import io
import json
import os
import subprocess
import tarfile
import tempfile
from typing import Any

from podium.testing.rootfs import PASSWD as PASSWD
from podium.testing.rootfs import make_busybox_rootfs as make_busybox_rootfs
from support import oci

RUN: dict[str, Any] = {
    "Cmd": ["/bin/sh"],
    "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "FROM_IMAGE=yes"],
    "WorkingDir": "/",
    "StopSignal": "SIGTERM",
}
DEBIAN_SUITE = "bookworm"
DEBIAN_CACHE = f"debian-{DEBIAN_SUITE}-1.oci.tar"  # the number changes when this module makes it differently


def cache_folder() -> str:
    """Where what is slow to make is kept between runs."""
    base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    folder = os.path.join(base, "podium-tests")
    os.makedirs(folder, exist_ok=True)
    return folder


def make_busybox_oci(rootfs: str, work: str) -> str:
    """An OCI archive of three layers: busybox; one that adds and replaces; one with whiteouts. Returns its path."""
    layers = [
        oci.layer_of(rootfs),
        oci.layer(
            [
                ("srv", None),
                ("srv/kept", b"from the second layer\n"),
                ("srv/removed", b"the third layer removes this\n"),
                ("srv/opaque", None),
                ("srv/opaque/lower", b"hidden by an opaque folder\n"),
                ("etc/hostname", b"second layer\n"),
            ]
        ),
        oci.layer(
            [
                ("srv/.wh.removed", b""),
                ("srv/opaque", None),
                ("srv/opaque/.wh..wh..opq", b""),
                ("srv/opaque/upper", b"from the third layer\n"),
            ]
        ),
    ]
    layout = os.path.join(work, "busybox-layout")
    oci.write_layout(layout, layers, RUN)
    return oci.archive(layout, os.path.join(work, "busybox.oci.tar"))


def debian_oci_archive() -> str:
    """An OCI archive of a minimal Debian (mmdebstrap), made once and kept in the cache. Returns its path."""
    path = os.path.join(cache_folder(), DEBIAN_CACHE)
    with open(path + ".lock", "w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not os.path.exists(path):
            with tempfile.TemporaryDirectory(prefix="debian-", dir=cache_folder()) as work:
                os.rename(_make_debian(work), path)
    return path


def _make_debian(work: str) -> str:
    tar = os.path.join(work, "rootfs.tar")
    subprocess.run(
        [
            "mmdebstrap", "--quiet", "--mode=root", "--variant=essential",
            "--dpkgopt=path-exclude=/usr/share/doc/*", "--dpkgopt=path-exclude=/usr/share/locale/*",
            "--dpkgopt=path-exclude=/usr/share/man/*", DEBIAN_SUITE, tar,
        ],
        stdin=subprocess.DEVNULL,
        check=True,
    )  # fmt: skip
    with open(tar, "rb") as f:
        layers = [f.read()]
    layout = os.path.join(work, "layout")
    oci.write_layout(layout, layers, {"Cmd": ["/bin/bash"], "Env": RUN["Env"]})
    return oci.archive(layout, os.path.join(work, "debian.oci.tar"))


def write_aci(path: str, manifest: bytes, rootfs: str) -> str:
    """An ACI: a tar with `manifest` and `rootfs/` (appc spec, "aci"). Returns `path`."""
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as tar:
        info = tarfile.TarInfo("manifest")
        info.size = len(manifest)
        tar.addfile(info, io.BytesIO(manifest))
        tar.add(rootfs, "rootfs")
    return path


def write_web_aci(path: str, rootfs: str) -> str:
    """An ACI `web` of a busybox, with a port `http`; returns its path."""
    manifest = {
        "acKind": "ImageManifest",
        "acVersion": "0.8.11",
        "name": "web",
        "labels": [{"name": "os", "value": "linux"}, {"name": "arch", "value": "amd64"}],
        "app": {
            "exec": ["/bin/busybox"],
            "user": "0",
            "group": "0",
            "environment": [{"name": "PATH", "value": "/bin:/usr/bin"}],
            "ports": [{"name": "http", "protocol": "tcp", "port": 80}],
        },
    }
    return write_aci(path, json.dumps(manifest).encode(), rootfs)
