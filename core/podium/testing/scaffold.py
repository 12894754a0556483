"""`podium stage1 new`: a complete plugin distribution. `podium stage1 test`: the suite from the command line."""

from __future__ import annotations

import os
import sys

from podium.errors import BadInput, HostLacks, InUse
from podium.testing.template import FILES
from podium.types import INTERFACE

_NAME = frozenset("abcdefghijklmnopqrstuvwxyz0123456789-")


def filled(text: str, name: str) -> str:
    """A template's text for the plugin `name`."""
    package = "podium_" + name.replace("-", "_")
    words = {"NAME": name, "PACKAGE": package, "DISTRIBUTION": f"podium-{name}", "INTERFACE": str(INTERFACE)}
    for word, value in words.items():
        text = text.replace(f"@{word}@", value)
    return text


def write(name: str, folder: str) -> list[str]:
    """Write a plugin distribution.

    Args:
        name: of the plugin.
        folder: where; it must be empty, or not be there.

    Returns:
        The paths of the files.

    Raises:
        BadInput: the name can't be a plugin's.
        InUse: the folder holds something.
    """
    if not name or not set(name) <= _NAME or not name[0].isalpha() or name[-1] == "-":
        raise BadInput(
            f"{name!r} can't be a plugin's name", hint="a letter, then a-z, 0-9 and '-'; no '-' last", subject=name
        )
    if os.path.lexists(folder) and (not os.path.isdir(folder) or os.listdir(folder)):
        raise InUse(f"{folder} holds something", hint="give an empty folder, or one to be made", subject=folder)
    written = []
    for file, content in FILES.items():
        path = os.path.join(folder, filled(file, name))
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "x", encoding="utf-8") as f:
            f.write(filled(content, name))
        written.append(path)
    return written


def read_xfails(path: str) -> dict[str, str]:
    """A file of lines `CHECK: REASON`; blank lines and those that begin with # are passed over.

    Raises:
        BadInput: a line is something else, or the file can't be read.
    """
    found = {}
    try:
        with open(path, encoding="utf-8") as f:
            lines = f.read().splitlines()
    except (OSError, UnicodeDecodeError) as e:
        raise BadInput(f"the list of known failures {path} can't be read: {e}", subject=path) from None
    for number, line in enumerate(lines, 1):
        if line.strip() and not line.lstrip().startswith("#"):
            check, colon, reason = line.partition(": ")
            if not colon or not check.strip().startswith("test_") or not reason.strip():
                hint = "such as 'test_volume[tmpfs]: the guest has no tmpfs yet'"
                raise BadInput(f"{path}:{number}: {line!r} is not of the form CHECK: REASON", hint=hint, subject=path)
            found[check.strip()] = reason.strip()
    return found


def run_suite(name: str, *, real: bool, xfails: dict[str, str], words: list[str]) -> int:
    """Run the conformance suite on an installed plugin, with pytest; returns pytest's exit code.

    Args:
        name: of the plugin.
        real: run the checks that start pods, too.
        xfails: see `Stage1Suite`.
        words: arguments for pytest.

    Raises:
        HostLacks: pytest is not installed.
        BadInput: a known failure is of no check of the suite.
    """
    import subprocess
    import tempfile
    from importlib.util import find_spec

    if find_spec("pytest") is None:
        raise HostLacks("the conformance suite needs pytest", hint="pip install 'podium[testing]'", subject="pytest")
    from podium.testing.suite import Stage1Suite, unknown_checks

    if unknown := unknown_checks(Stage1Suite, xfails):
        raise BadInput(f"the suite has no check {unknown[0]!r}", hint="take it off the list", subject=unknown[0])
    with tempfile.TemporaryDirectory(prefix="podium-stage1-") as folder:
        path = os.path.join(folder, "test_conformance.py")
        with open(path, "w", encoding="utf-8") as f:
            f.write(
                "from podium.testing import Stage1Suite\n\n\nclass TestConformance(Stage1Suite):\n"
                f"    plugin = {name!r}\n    real = {real!r}\n    xfails = {xfails!r}\n"
            )
        command = [sys.executable, "-m", "pytest", "-c", os.devnull, "--rootdir", folder, "-p", "no:cacheprovider"]
        return subprocess.run([*command, "-rsfExX", path, *words], check=False, cwd=folder).returncode
