"""How much longer `podium run` takes on the network `default` than with `--net none`, beside the CNI plugins' own time.

The plugins' own time is that of the same ADDs and DELs, made by a shell. python bench/net.py [--rounds 20]
"""

from __future__ import annotations

import json
import os
import subprocess

from measuring import arguments, data_directory, in_turns, make_rootfs, median, podium, run, show, verdict

BUDGET = 1.3  # times the plugins' own time
BRIDGE = "pbench0"
PLUGINS = "/usr/lib/cni"


def _script(root: str) -> str:
    """ADD and DEL of bridge in a namespace, as the network `default` has it for a pod without ports."""
    ipam = {
        "type": "host-local",
        "dataDir": f"{root}/ipam",
        "ranges": [[{"subnet": "10.222.0.0/16"}], [{"subnet": "fd5b:6265::/64"}]],
        "routes": [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}],
    }
    common = {"cniVersion": "1.0.0", "name": "bench"}
    bridge = {**common, "type": "bridge", "bridge": BRIDGE, "isGateway": True, "ipMasq": True, "hairpinMode": True}
    path = f"{root}/bridge.json"
    with open(path, "w", encoding="ascii") as f:
        json.dump({**bridge, "ipam": ipam}, f)
    script = f"{root}/plugins.sh"
    with open(script, "w", encoding="ascii") as f:
        f.write(
            f"export CNI_CONTAINERID=bench CNI_NETNS=/run/netns/pbench CNI_IFNAME=eth0 CNI_PATH={PLUGINS}\n"
            f"CNI_COMMAND=ADD {PLUGINS}/bridge <{path} && CNI_COMMAND=DEL {PLUGINS}/bridge <{path}\n"
        )
    return script


def main() -> None:
    """Measure."""
    args = arguments(__doc__, 20)
    with data_directory() as root:
        rootfs = os.path.join(root, "rootfs-of-bench")
        make_rootfs(rootfs)
        config = os.path.join(root, "config.toml")
        with open(config, "w", encoding="ascii") as f:
            f.write(f'[net]\nbridge = "{BRIDGE}"\nipam-dir = "{root}/ipam"\nconfig-dir = "{root}/net.d"\n')
            f.write('subnets = ["10.222.0.0/16", "fd5b:6265::/64"]\n')
        data = podium(os.path.join(root, "data"), "--config", config)
        run([*data, "image", "import", rootfs, "--name", "bench", "--exec", "/bin/true"])
        subprocess.run(["ip", "netns", "add", "pbench"], check=True)
        try:
            taken = in_turns(
                {
                    "the CNI plugins alone": ["sh", _script(root)],
                    "podium run --net none": [*data, "run", "--net", "none", "bench"],
                    "podium run --net default": [*data, "run", "--net", "default", "bench"],
                },
                args.rounds,
            )
        finally:
            run([*data, "gc", "--grace-period", "0s"])
            subprocess.run(["ip", "netns", "delete", "pbench"], check=True)
            subprocess.run(["ip", "link", "delete", BRIDGE], check=False)
    plugins, none, default = (median(values) for values in taken.values())
    print("podium run on the network default")
    show(taken)
    print(f"  default over none {default - none:.1f} ms, the plugins alone {plugins:.1f} ms")
    verdict("over --net none / the plugins' own time", (default - none) / plugins, BUDGET, " x")


if __name__ == "__main__":
    main()
