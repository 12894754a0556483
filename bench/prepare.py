"""How much longer it takes to prepare a pod of a 200 MB image than one of a 2 MB image, both rendered already.

python bench/prepare.py [--rounds 20]
"""

from __future__ import annotations

import os

from measuring import arguments, data_directory, in_turns, make_rootfs, median, podium, run, show, verdict

BUDGET = 30  # ms more
_FILES, _SIZE = 2000, 100_000  # 200 MB


def main() -> None:
    """Measure."""
    args = arguments(__doc__, 20)
    with data_directory() as root:
        data = os.path.join(root, "data")
        commands = {}
        for name, files in (("small", 0), ("200 MB", _FILES)):
            rootfs = os.path.join(root, name.split()[0])
            make_rootfs(rootfs)
            os.mkdir(os.path.join(rootfs, "data"))
            for number in range(files):
                with open(os.path.join(rootfs, "data", str(number)), "wb") as f:
                    f.write(os.urandom(_SIZE))
            image = "bench-" + name.split()[0]
            run(podium(data, "image", "import", rootfs, "--name", image, "--exec", "/bin/true"))
            run(podium(data, "prepare", "--stage1", "fly", image))  # renders it
            commands[name] = podium(data, "prepare", "--stage1", "fly", image)
        taken = in_turns(commands, args.rounds)
    small, large = taken.values()
    print("podium prepare --stage1 fly IMAGE, rendered before")
    show(taken)
    verdict("more for 200 MB (medians)", median(large) - median(small), BUDGET, " ms")


if __name__ == "__main__":
    main()
