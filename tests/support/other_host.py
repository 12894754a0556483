"""Programs of another host in place of this one's: for one podium command, and for the pods that it starts."""

from __future__ import annotations

import fcntl
import os
import subprocess
import tempfile
from collections.abc import Mapping

import pytest

from support.command import Podium
from support.images import cache_folder

DEBIAN = "trixie"
_CACHE = f"{DEBIAN}-machines-1.tar"
_PACKAGES = "virtiofsd,qemu-system-x86,seabios,linux-image-cloud-amd64"
_FIRST = "/usr/local/sbin"  # of the folders that stage1s look for programs in


def with_settings(podium: Podium, folder: str, *lines: str) -> Podium:
    """podium with these lines in the table [kvm] of its configuration."""
    path = os.path.join(folder, "kvm.toml")
    with open(podium.config, encoding="utf-8") as old, open(path, "w", encoding="utf-8") as new:
        new.write("\n".join([old.read(), "[kvm]", *lines, ""]))
    return podium.using(podium.binary, config=path)


def with_programs(podium: Podium, folder: str, scripts: Mapping[str, str]) -> Podium:
    """podium in a mount namespace where shell scripts of these names come before the programs of the host."""
    programs, command = os.path.join(folder, "programs"), os.path.join(folder, "podium")
    os.mkdir(programs)
    started = f'mount --bind {programs} {_FIRST} && exec "$@"'
    files = {os.path.join(programs, name): script for name, script in scripts.items()}
    files[command] = f"exec unshare --mount sh -c '{started}' sh {podium.binary} \"$@\"\n"
    for path, script in files.items():
        with open(path, "w", encoding="utf-8") as f:
            f.write(f"#!/bin/sh\n{script}")
        os.chmod(path, 0o755)
    return podium.using(command, PATH=f"{_FIRST}:{os.environ['PATH']}")


def debian(folder: str) -> str:
    """Files of the next Debian's QEMU, virtiofsd and kernel, with the libraries they need; returns their root."""
    path = os.path.join(cache_folder(), _CACHE)
    with open(path + ".lock", "w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not os.path.exists(path):
            with tempfile.TemporaryDirectory(prefix="debian-", dir=cache_folder()) as work:
                made = os.path.join(work, "files.tar")
                argv = ["mmdebstrap", "--quiet", "--mode=root", "--variant=extract", f"--include={_PACKAGES}"]
                done = subprocess.run([*argv, DEBIAN, made], stdin=subprocess.DEVNULL, check=False)
                if done.returncode:
                    pytest.skip(f"mmdebstrap can't have {DEBIAN}'s packages here")
                os.rename(made, path)
    root = os.path.join(folder, DEBIAN)
    os.mkdir(root)
    subprocess.run(["tar", "--extract", "--file", path, "--directory", root], check=True)
    os.symlink("usr/lib", os.path.join(root, "lib"))
    return root


def by_its_loader(root: str, program: str, *arguments: str) -> str:
    """A line of a shell script that executes a program of another root with its own libraries."""
    libraries = os.path.join(root, "usr/lib/x86_64-linux-gnu")
    loader = os.path.join(libraries, "ld-linux-x86-64.so.2")
    return " ".join(["exec", loader, "--library-path", libraries, f"{root}/{program}", *arguments, '"$@"\n'])
