"""A rootfs for pods of tests: busybox, and a few users."""

from __future__ import annotations

import os
import shutil
import subprocess

PASSWD = """\
root:x:0:0:root:/root:/bin/sh
app:x:1000:1000:an app:/home/app:/bin/sh
nobody:x:65534:65534:nobody:/:/bin/false
"""
GROUP = """\
root:x:0:
extra:x:500:app
app:x:1000:
nogroup:x:65534:
"""


def make_busybox_rootfs(folder: str) -> str:
    """A rootfs with busybox, its applets, and the users root, app (1000:1000, also in `extra`, 500) and nobody.

    Raises:
        AssertionError: the host has no busybox; a static one is needed.
    """
    busybox = shutil.which("busybox")
    assert busybox, "busybox-static is not installed"
    for name, mode in {
        "bin": 0o755, "dev": 0o755, "etc": 0o755, "home": 0o755, "home/app": 0o750, "proc": 0o755, "root": 0o700,
        "sys": 0o755, "tmp": 0o1777, "usr": 0o755, "usr/bin": 0o755, "var": 0o755,
    }.items():  # fmt: skip
        path = os.path.join(folder, name)
        os.makedirs(path, exist_ok=True)
        os.chmod(path, mode)
    os.chown(os.path.join(folder, "home/app"), 1000, 1000)
    shutil.copy2(busybox, os.path.join(folder, "bin/busybox"))
    listed = subprocess.run([busybox, "--list"], capture_output=True, text=True, check=True)
    for applet in listed.stdout.split():
        if applet != "busybox":
            os.symlink("busybox", os.path.join(folder, "bin", applet))
    for name, content in {"passwd": PASSWD, "group": GROUP, "hostname": "image\n"}.items():
        with open(os.path.join(folder, "etc", name), "w", encoding="utf-8") as f:
            f.write(content)
    return folder
