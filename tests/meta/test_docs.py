"""The documentation keeps up with the code, and nothing tracked knows the machine it was written on."""

from __future__ import annotations

import os
import re
import subprocess
import sys

from support.command import INSTALLED
from support.distributions import REPOSITORY

THIS = "tests/meta/test_docs.py"
# Absolute paths of developers' machines, and of the mirrors that they install from.
MACHINE_PATHS = re.compile(
    r"(?<![\w}).])(?:/work/(?:main|shared|\.)|/root/\.\w|/home/(?!app\b|user\b)\w+/|/Users/\w+/|/opt/(?:wheels|pypi))|\.pyenv\b"
)
LINK = re.compile(r"(?<!!)\[[^\]\n]+\]\(([^)\s]+)\)")
FAULT = re.compile(r"^def (test_(\d\d)_\w+)\(", re.MULTILINE)
FAULT_ROW = re.compile(r"^\| (\d+) \| .* \| (?:`(\w+)`)? ?\|$", re.MULTILINE)


def _tracked() -> list[str]:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    return [name for name in listed.stdout.split("\0") if name and os.path.isfile(os.path.join(REPOSITORY, name))]


def _text(name: str) -> str:
    with open(os.path.join(REPOSITORY, name), encoding="utf-8", errors="replace") as f:
        return f.read()


def _verbs() -> set[str]:
    """The verbs that `podium --help` shows."""
    done = subprocess.run([INSTALLED, "--help"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    braces = [verb for group in re.findall(r"\{([a-z0-9,-]+)\}", done.stdout) for verb in group.split(",")]
    lines = re.findall(r"^ {2,6}([a-z][a-z0-9-]+)(?: \([a-z, -]+\))? {2,}\S", done.stdout, re.MULTILINE)
    return {*braces, *lines}


def test_every_verb_is_documented() -> None:
    verbs, cli = _verbs(), _text("docs/cli.md")
    assert "list" in verbs
    missing = [verb for verb in sorted(verbs) if not re.search(rf"\bpodium {re.escape(verb)}\b", cli)]
    assert missing == [], f"docs/cli.md says nothing of {missing}"


def test_links_in_documents_resolve() -> None:
    broken = []
    for name in _tracked():
        if name.endswith(".md"):
            for target in LINK.findall(_text(name)):
                if "://" in target or target.startswith(("#", "mailto:")):
                    continue
                path = os.path.join(REPOSITORY, os.path.dirname(name), target.partition("#")[0])
                if not os.path.exists(path):
                    broken.append(f"{name}: {target}")
    assert broken == []


def test_no_path_of_a_developers_machine_is_tracked() -> None:
    found = [
        f"{name}:{number}: {line.strip()[:120]}"
        for name in _tracked()
        if name != THIS
        for number, line in enumerate(_text(name).splitlines(), 1)
        if MACHINE_PATHS.search(line)
    ]
    assert found == []


def test_machine_path_check_sees_one() -> None:
    assert MACHINE_PATHS.search('x = "/work/main/y"') and MACHINE_PATHS.search("see /home/jane/src/podium")
    assert not MACHINE_PATHS.search("root:x:0:0:root:/root:/bin/sh {dir}/work/index /home/app/")


def test_faults_that_are_claimed_have_a_test() -> None:
    folder = os.path.join(REPOSITORY, "tests", "faults")
    files = [f"tests/faults/{n}" for n in os.listdir(folder) if n.startswith("test_") and n.endswith(".py")]
    tests = {name: int(number) for file in files for name, number in FAULT.findall(_text(file))}
    rows = {int(number): test for number, test in FAULT_ROW.findall(_text("docs/faults.md"))}
    assert set(rows) == set(range(1, 46)) and all(rows.values())
    unknown = [f"{number}: {test}" for number, test in rows.items() if test and tests.get(test) != number]
    assert unknown == [], "docs/faults.md claims faults that no test shows"
    unclaimed = {test: number for test, number in tests.items() if not rows.get(number)}
    assert unclaimed == {}, "tests/faults has tests that docs/faults.md does not name"


def test_documented_interpreter_is_the_one_that_runs() -> None:
    assert sys.version_info >= (3, 11)
    assert 'requires-python = ">=3.11"' in _text("pyproject.toml")
