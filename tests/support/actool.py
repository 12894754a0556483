"""`actool`, the appc specification's own validator of images, of Debian's package appc-spec.

The package is unpacked rather than installed: it depends on the Go compiler, 470 MB that running it does not need.
"""

from __future__ import annotations

import fcntl
import os
import subprocess
import tempfile

from support.images import cache_folder


def program() -> str:
    """The program, fetched once and kept in the cache."""
    path = os.path.join(cache_folder(), "actool")
    with open(path + ".lock", "w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not os.path.exists(path):
            with tempfile.TemporaryDirectory(prefix="actool-", dir=cache_folder()) as work:
                fetch = ["apt-get", "download", "--quiet", "--option", "APT::Sandbox::User=root", "appc-spec"]
                subprocess.run(fetch, cwd=work, check=True, capture_output=True)
                (package,) = [name for name in os.listdir(work) if name.endswith(".deb")]
                subprocess.run(["dpkg-deb", "--extract", package, "unpacked"], cwd=work, check=True)
                os.rename(os.path.join(work, "unpacked/usr/bin/actool"), path)
    return path


def complaint(aci: str) -> str:
    """What is wrong with an ACI by the specification; empty if nothing is."""
    done = subprocess.run([program(), "validate", aci], capture_output=True, text=True, check=False)
    return "" if done.returncode == 0 else done.stderr + done.stdout or "refused without a word"
