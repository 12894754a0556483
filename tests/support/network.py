"""Networks of a test session: a bridge, subnets and folders of its own, so that sessions side by side don't meet."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import zlib

from support.command import Podium

NUMBER = zlib.crc32(str(os.getpid()).encode()) % 4096
BRIDGE = f"ptest{os.getpid() % 10**8}"
SUBNET = f"10.{224 + NUMBER // 256}.{NUMBER % 256}"  # of the first three bytes
SUBNET6 = f"fd5b:7465:{NUMBER:x}:"


def settings(folder: str) -> str:
    """The table [net] of the session's configuration; lists of CNI go to `folder`/net.d."""
    return (
        f'[net]\nbridge = "{BRIDGE}"\nsubnets = ["{SUBNET}.0/24", "{SUBNET6}:/64"]\n'
        f'ipam-dir = "{folder}/ipam"\nconfig-dir = "{folder}/net.d"\n'
    )


def make_plugin(folder: str, name: str, script: str) -> None:
    """A CNI plugin that is a script, in a folder that need not be there yet."""
    os.makedirs(folder, exist_ok=True)
    path = os.path.join(folder, name)
    with open(path, "w", encoding="utf-8") as f:
        f.write(script)
    os.chmod(path, stat.S_IRWXU)


def look_for_plugins(podium: Podium, config: str, *folders: str) -> None:
    """Have `podium` look for CNI plugins in these folders, by a new configuration file `config`."""
    with open(podium.config, encoding="utf-8") as f:
        text = f.read()
    podium.config = config
    with open(config, "w", encoding="utf-8") as f:
        f.write(text.replace("[net]", f"[net]\nplugin-dirs = {json.dumps(folders)}"))


def has_bridge(name: str) -> bool:
    """Whether there is a link of that name."""
    return os.path.isdir(f"/sys/class/net/{name}")


def remove_bridge(name: str = BRIDGE) -> None:
    """The plugin keeps its bridge for the next pod; the session's goes with the session."""
    if has_bridge(name):
        subprocess.run(["ip", "link", "delete", name], check=True)
