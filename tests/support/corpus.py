"""The corpus: files that a released podium wrote or must survive. Files are added, and never changed or removed.

`python tests/support/corpus.py` adds new files to DIGESTS.
"""

from __future__ import annotations

import hashlib
import os

FOLDER = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "corpus")
DIGESTS = "DIGESTS"  # as sha256sum writes it, sorted by name
_UNLISTED = frozenset({DIGESTS, "README.md"})


def problems(folder: str = FOLDER) -> list[str]:
    """What is wrong with the corpus: files that are not listed, not there, or not what they were."""
    listed, found = _listed(folder), _found(folder)
    return [
        *(f"{name} is not in {DIGESTS}" for name in sorted(found.keys() - listed.keys())),
        *(f"{name} was removed" for name in sorted(listed.keys() - found.keys())),
        *(f"{name} was changed" for name in sorted(listed.keys() & found.keys()) if listed[name] != found[name]),
    ]


def add(folder: str = FOLDER) -> list[str]:
    """List the files that are not listed yet; returns their names. What is listed keeps its digest."""
    listed, found = _listed(folder), _found(folder)
    new = sorted(found.keys() - listed.keys())
    with open(os.path.join(folder, DIGESTS), "w", encoding="utf-8") as f:
        f.writelines(f"{digest}  {name}\n" for name, digest in sorted((found | listed).items()))
    return new


def _listed(folder: str) -> dict[str, str]:
    with open(os.path.join(folder, DIGESTS), encoding="utf-8") as f:
        return {line[66:].rstrip("\n"): line[:64] for line in f}


def _found(folder: str) -> dict[str, str]:
    found = {}
    for top, _, files in os.walk(folder):
        for file in files:
            path = os.path.join(top, file)
            name = os.path.relpath(path, folder)
            if name not in _UNLISTED and not name.endswith(".pyc"):
                with open(path, "rb") as f:
                    found[name] = hashlib.file_digest(f, "sha256").hexdigest()
    return found


if __name__ == "__main__":
    print("\n".join(add()))
