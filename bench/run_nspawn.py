"""How much longer `podium run IMAGE` (/bin/true) takes than a bare `systemd-nspawn` with the same flags; and podman.

podman removes the container that it has run, so it is held against `podium run --rm`.

python bench/run_nspawn.py [--rounds 20]
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess

from measuring import arguments, data_directory, in_turns, make_rootfs, median, podium, run, show, verdict

from podium.types import App, Network, Pod
from podium_nspawn.command import ENVIRONMENT
from podium_nspawn.command import arguments as nspawn_arguments

BUDGET, SECOND_APP = 60, 30  # ms over nspawn, and over a pod of one app
PODMAN_RATIO = 0.8
# crun takes no hierarchy of version 2 that has controllers beside those of version 1: so podman has a mount namespace
# of its own there, and what making that takes is not counted.
_ALONE = "mountpoint -q /sys/fs/cgroup/unified && umount -l /sys/fs/cgroup/unified; exec "
_UUID = "6f1c8f0e-9d0b-4f6e-8a31-5d1f6f2f8e11"


def bare(rootfs: str) -> list[str]:
    """systemd-nspawn as podium calls it, but with /bin/true instead of the placeholder."""
    app = App(name="true", image="bench", image_id="", rootfs=rootfs, exec=("/bin/true",))
    pod = Pod(uuid=_UUID, name=None, dir=rootfs, data_root=rootfs, apps=(app,), network=Network(names=("none",)))
    argv = nspawn_arguments(pod, rootfs)
    at = argv.index(f"--directory={rootfs}") + 1
    environment = [f"{name}={value}" for name, value in ENVIRONMENT.items()]
    return ["env", *environment, *argv[:at], "/bin/true"]


def alone(command: list[str]) -> list[str]:
    """The command where it sees cgroup v1 or v2, but not both."""
    return ["unshare", "--mount", "sh", "-c", _ALONE + shlex.join(command)]


def podman(rootfs: str) -> tuple[str, list[str]] | None:
    """podman's command on the same rootfs, and the image to be removed; None where podman is not installed."""
    if shutil.which("podman") is None:
        return None
    archive = f"{rootfs}.tar"
    run(["tar", "-C", rootfs, "-cf", archive, "."])
    done = subprocess.run(["podman", "import", archive], stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"podman import: {done.stderr}")
    image = done.stdout.split()[-1]
    limits = ["--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1024:1024"]  # its own are above a host's hard ones
    command = alone(["podman", "run", "--rm", "--network", "none", *limits, image, "/bin/true"])
    tried = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if tried.returncode:
        print(f"podman is left out, it can't run here: {tried.stderr.strip()}")
        run(["podman", "rmi", "--force", image])
        return None
    return image, command


def main() -> None:
    """Measure."""
    args = arguments(__doc__, 20)
    with data_directory() as root:
        rootfs = os.path.join(root, "rootfs-of-bench")
        make_rootfs(rootfs)
        for folder in ("usr", "etc", "proc", "sys", "dev", "run", "tmp", "var"):
            os.makedirs(os.path.join(rootfs, folder), exist_ok=True)
        with open(os.path.join(rootfs, "etc/os-release"), "w", encoding="ascii") as f:
            f.write("ID=bench\n")
        data = os.path.join(root, "data")
        run(podium(data, "image", "import", rootfs, "--name", "bench", "--exec", "/bin/true"))
        one = ("run", "--net", "none", "bench")
        commands = {
            "systemd-nspawn": bare(rootfs),
            "podium run": podium(data, *one),
            "podium run, two apps": podium(data, *one, "--name", "a", "---", "bench", "--name", "b"),
            "podium run --rm": podium(data, "run", "--rm", *one[1:]),
        }
        peer = podman(rootfs)
        if peer is not None:
            commands["podman run"] = peer[1]
            commands["podman's namespace"] = alone(["true"])
        try:
            taken = in_turns(commands, args.rounds)
        finally:
            shutil.rmtree(f"/run/systemd/nspawn/propagate/podium-{_UUID}", ignore_errors=True)  # which nspawn leaves
            if peer is not None:
                run(["podman", "rmi", "--force", peer[0]])
    print("podium run --net none IMAGE (/bin/true)")
    show(taken)
    middle = {name: median(values) for name, values in taken.items()}
    verdict("over systemd-nspawn (medians)", middle["podium run"] - middle["systemd-nspawn"], BUDGET, " ms")
    print(f"  --rm over systemd-nspawn (medians): {middle['podium run --rm'] - middle['systemd-nspawn']:.2f} ms")
    verdict("the second app", middle["podium run, two apps"] - middle["podium run"], SECOND_APP, " ms")
    if peer is not None:
        other = middle["podman run"] - middle["podman's namespace"]
        verdict("--rm, of podman run --rm", middle["podium run --rm"] / other, PODMAN_RATIO, " ×")


if __name__ == "__main__":
    main()
