"""A Debian that systemd boots, in a container of systemd-nspawn's, with podium installed: what units do for real."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import shutil
import subprocess
import tempfile
import time

from support.distributions import REPOSITORY, Venv
from support.images import DEBIAN_SUITE, cache_folder, make_busybox_rootfs

_CACHE = f"debian-{DEBIAN_SUITE}-systemd-1.tar"  # the number changes when this module makes it differently
_PACKAGES = "systemd,systemd-sysv,dbus,python3,libcap2,libseccomp2,busybox-static,systemd-container"
_SITE = "usr/local/lib/python3.11/dist-packages"
_PODIUM = "#!/usr/bin/python3\nimport sys\nfrom podium.cli.main import main\nsys.exit(main())\n"
_SAY = 'say() { echo "### $1"; shift; "$@" 2>&1; echo "=== $?"; }\n'
_SERVICE = """
[Unit]
After=basic.target dbus.service
[Service]
Type=oneshot
StandardOutput=file:/said
StandardError=inherit
ExecStart=/bin/sh /script
ExecStopPost=systemctl --no-block poweroff
"""
# A hierarchy v2 alone, as systemd has it today, whatever this host has. In a mount namespace of our own.
_BOOT = """
umount -R /sys/fs/cgroup && mount -t cgroup2 cgroup2 /sys/fs/cgroup &&
mkdir -p /sys/fs/cgroup/{parent}/booted && echo $$ > /sys/fs/cgroup/{parent}/booted/cgroup.procs &&
exec systemd-nspawn --directory={root} --boot --register=no --keep-unit --private-network --link-journal=no \
--capability=all --console=interactive
"""


def _tar() -> str:
    """The root file system, made once and kept in the cache."""
    path = os.path.join(cache_folder(), _CACHE)
    with open(path + ".lock", "w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not os.path.exists(path):
            with tempfile.TemporaryDirectory(prefix="debian-", dir=cache_folder()) as work:
                made = os.path.join(work, "rootfs.tar")
                options = ("--quiet", "--mode=root", "--variant=minbase", f"--include={_PACKAGES}")
                excluded = (f"--dpkgopt=path-exclude=/usr/share/{folder}/*" for folder in ("doc", "locale", "man"))
                subprocess.run(
                    ["mmdebstrap", *options, *excluded, DEBIAN_SUITE, made], stdin=subprocess.DEVNULL, check=True
                )
                os.rename(made, path)
    return path


def make(work: str) -> str:
    """A root file system with podium as it is in the sources, and a busybox in /box; returns its folder."""
    root = os.path.join(work, "root")
    os.mkdir(root)
    subprocess.run(["tar", "--extract", "--file", _tar(), "--directory", root], check=True)
    venv = Venv.make(os.path.join(work, "venv"))
    shutil.copytree(venv.site, os.path.join(root, _SITE), dirs_exist_ok=True)
    make_busybox_rootfs(os.path.join(root, "box"))
    shutil.copytree(os.path.join(REPOSITORY, "contrib", "systemd"), os.path.join(root, "contrib"))
    _write(os.path.join(root, "usr/local/bin/podium"), _PODIUM)
    os.chmod(os.path.join(root, "usr/local/bin/podium"), 0o755)
    _write(os.path.join(root, "etc/systemd/system/script.service"), _SERVICE)
    wants = os.path.join(root, "etc/systemd/system/multi-user.target.wants")
    os.makedirs(wants, exist_ok=True)
    os.symlink("/etc/systemd/system/script.service", os.path.join(wants, "script.service"))
    return root


def _write(path: str, content: str) -> None:
    with open(path, "w", encoding="utf-8") as f:
        f.write(content)


def run(root: str, script: str, parent: str, limit: float = 180.0) -> dict[str, tuple[int, str]]:
    """Boot it, let it run a script, and wait until it is off.

    Args:
        root: what `make` gave.
        script: of sh; `say NAME COMMAND…` in it runs a command.
        parent: cgroup below which it is.
        limit: seconds.

    Returns:
        Exit code and output of each command, by its name.
    """
    _write(os.path.join(root, "script"), _SAY + script)
    ours, theirs = pty.openpty()  # without a terminal, systemd says nothing and does not go on
    command = ["unshare", "--mount", "sh", "-c", _BOOT.format(parent=parent, root=root)]
    console, deadline = b"", time.monotonic() + limit
    with subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True) as process:
        os.close(theirs)
        while process.poll() is None and time.monotonic() < deadline:
            if select.select([ours], [], [], 0.5)[0]:
                try:
                    console += os.read(ours, 1 << 16)
                except OSError:
                    break  # the terminal's other end is closed
        if process.poll() is None and time.monotonic() >= deadline:
            process.terminate()  # nspawn powers it off
    os.close(ours)
    assert process.returncode == 0, console.decode(errors="replace")[-4000:]
    with open(os.path.join(root, "said"), encoding="utf-8", errors="replace") as f:
        found = re.findall(r"^### (\S+)\n(.*?)^=== (\d+)$", f.read(), re.MULTILINE | re.DOTALL)
    return {name: (int(code), output) for name, output, code in found}
