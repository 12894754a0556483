"""How much longer `podium run --stage1 fly IMAGE -- true` takes than `chroot ROOTFS /bin/true`.

python bench/run_fly.py [--rounds 30]
"""

from __future__ import annotations

import os

from measuring import arguments, data_directory, in_turns, make_rootfs, median, podium, run, show, verdict

BUDGET = 60  # ms over chroot


def main() -> None:
    """Measure."""
    args = arguments(__doc__, 30)
    with data_directory() as root:
        rootfs = os.path.join(root, "rootfs-of-bench")
        make_rootfs(rootfs)
        data = os.path.join(root, "data")
        run(podium(data, "image", "import", rootfs, "--name", "bench", "--exec", "/bin/true"))
        taken = in_turns(
            {
                "chroot ROOTFS /bin/true": ["chroot", rootfs, "/bin/true"],
                "podium run": podium(data, "run", "--stage1", "fly", "bench", "--", "true"),
            },
            args.rounds,
        )
    peer, own = taken.values()
    print("podium run --stage1 fly IMAGE -- true")
    show(taken)
    verdict("over chroot (medians)", median(own) - median(peer), BUDGET, " ms")


if __name__ == "__main__":
    main()
