"""Start a worker from a pin: the interpreter runs this file, from the pin's folder, with nothing else on its path.

    PYTHON -I -S -B <pin>/boot.py FD

FD is the worker's end of the socket. PODIUM_NATIVE_PATH (a JSON list of folders) says where the compiled modules are
that a pin could not copy; of these folders only the modules that pin.json names are ever imported.
"""

from __future__ import annotations

import json
import os
import sys
from importlib.machinery import ModuleSpec, PathFinder

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


class NativeFinder:
    """Finds what the pin names as native, and only that, in the folders of today's installation."""

    def __init__(self, names: Iterable[str], folders: Sequence[str]) -> None:
        """Set what may be found, and where."""
        self.names = frozenset(names)
        self.folders = folders

    def find_spec(self, name: str, path: Sequence[str] | None = None, target: object = None) -> ModuleSpec | None:
        """See importlib.abc.MetaPathFinder."""
        if name in self.names:
            return PathFinder.find_spec(name, self.folders)
        if path is not None and name.partition(".")[0] in self.names:
            return PathFinder.find_spec(name, path)
        return None


def main() -> None:
    """Set the path up and serve."""
    here = os.path.dirname(os.path.abspath(__file__))
    with open(os.path.join(here, "pin.json"), "rb") as f:
        native = json.load(f)["native"]
    sys.path.insert(0, os.path.join(here, "lib"))
    folders = json.loads(os.environ.pop("PODIUM_NATIVE_PATH", "[]"))
    sys.meta_path.append(NativeFinder(native, folders))
    from podium.stage1.worker import serve_fd

    serve_fd(int(sys.argv[1]))


if __name__ == "__main__":
    main()
