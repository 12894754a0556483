"""How long `podium list` takes: with 100 exited pods against bare Python, and as JSON with 1,000.

python bench/list.py [--rounds 30]
"""

from __future__ import annotations

import os
import sys
from importlib.util import module_from_spec, spec_from_file_location

from measuring import arguments, data_directory, in_turns, median, podium, show, verdict

from podium import format
from podium.paths import DataDir

RATIO_100 = 2.5  # times `python -c pass`
JSON_1000 = 150  # ms


def _make_pods(root: str, count: int) -> None:
    """With bench/gc.py's; `import gc` would be the interpreter's own."""
    spec = spec_from_file_location("bench_gc", os.path.join(os.path.dirname(os.path.abspath(__file__)), "gc.py"))
    assert spec is not None and spec.loader is not None
    pods = module_from_spec(spec)
    spec.loader.exec_module(pods)
    data = DataDir(root)
    format.ensure(data)
    pods.make_pods(data, count)


def main() -> None:
    """Measure."""
    args = arguments(__doc__, 30)
    python = {"python -c pass": [sys.executable, "-c", "pass"]}
    with data_directory() as root:
        _make_pods(root, 100)
        taken = in_turns({**python, "podium list": podium(root, "list")}, args.rounds)
    peer, own = taken.values()
    print("podium list, 100 exited pods")
    show(taken)
    verdict("times python (medians)", median(own) / median(peer), RATIO_100, "")
    with data_directory() as root:
        _make_pods(root, 1000)
        taken = in_turns({**python, "podium list": podium(root, "list", "--format", "json")}, args.rounds)
    print("podium list --format json, 1,000 exited pods")
    show(taken)
    verdict("median", median(taken["podium list"]), JSON_1000, " ms")


if __name__ == "__main__":
    main()
