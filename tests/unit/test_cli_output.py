"""What the command line prints."""

from __future__ import annotations

import errno
import shutil
import subprocess
import tomllib
from typing import Any

import pytest

from podium.cli import completion, helptext, output, progress
from podium.cli.main import ALIASES, VERBS, load
from podium.cli.verbs.config import render
from podium.cli.verbs.list import COMMAND as LIST
from podium.cli.verbs.list import _epoch, _fits
from podium.clock import rfc3339
from podium.errors import NotFound

POD: dict[str, Any] = {
    "name": "web",
    "state": "running",
    "labels": {"tier": "front"},
    "stage1": {"name": "fly"},
    "apps": [{"name": "a", "image": "demo/busybox:1", "image_id": "sha256:" + "ab" * 32}],
}


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain ü", "plain ü"),
        ("a\x1b[31mb", "a\\x1b[31mb"),
        ("a\nb\tc", "a\\x0ab\\x09c"),
        ("a\udcffb", "a\\xffb"),
        ("\u202eevil", "\\u202eevil"),
        ("\U000e0001", "\\U000e0001"),
    ],
)
def test_control_characters_never_reach_the_terminal(text: str, shown: str) -> None:
    assert output.clean(text) == shown


def test_tables_are_aligned_and_have_no_empty_cell(capsys: pytest.CaptureFixture[str]) -> None:
    output.table(("A", "LONG"), [("xxx", ""), ("\x1b", "y")])
    assert capsys.readouterr().out == "A     LONG\nxxx   -\n\\x1b  y\n"
    output.table(("A", "LONG"), [], legend=False)
    assert capsys.readouterr().out == ""


def test_errors_are_told_with_their_hint(capsys: pytest.CaptureFixture[str]) -> None:
    error = NotFound("no pod 'x\x1b'\nsecond line", hint="look again", subject="x")
    output.report(error, as_json=False)
    assert capsys.readouterr().err == "podium: no pod 'x\\x1b'\n  second line\n  hint: look again\n"
    output.report(error, as_json=True)
    assert '"schema": "podium.error/1"' in capsys.readouterr().err


def test_a_system_call_s_failure_is_told_with_its_path() -> None:
    error = output.as_podium_error(OSError(errno.ENOSPC, "No space left on device", "/data/x"))
    assert error.message == "/data/x: No space left on device"
    assert (error.reason, error.subject, error.exit_code) == ("enospc", "/data/x", 1)
    assert error.hint is not None and "podium gc" in error.hint
    both = output.as_podium_error(OSError(errno.EXDEV, "Invalid cross-device link", b"/a", None, b"/b"))
    assert both.message == "/a and /b: Invalid cross-device link"
    assert output.as_podium_error(TimeoutError("pod x is still running")).reason == "timeout"
    assert output.as_podium_error(OSError("odd")).message == "odd"


@pytest.mark.parametrize("seconds", [0, 951782399, 951782400, 1709164799, 1709251200, 1735689599, 4107542400])
def test_ages_are_counted_as_the_clock_counts(seconds: int) -> None:
    assert _epoch(rfc3339(seconds)) == seconds


@pytest.mark.parametrize(
    ("filter", "fits"),
    [
        ("state=running", True),
        ("state=run", False),
        ("name=web", True),
        ("label=tier", True),
        ("label=tier=front", True),
        ("label=tier=back", False),
        ("label=other", False),
        ("stage1=fly", True),
        ("app=a", True),
        ("app=b", False),
        ("image=demo/busybox", True),
        ("image=demo/busybox:1", True),
        ("image=demo/busybox:2", False),
        ("image=ababab", True),
        ("image=sha256:ababab", True),
        ("image=abab", False),
    ],
)
def test_filters(filter: str, fits: bool) -> None:
    convert = next(o.convert for o in LIST.options if o.flag == "--filter")
    assert convert is not None
    assert _fits(POD, *convert(filter)) is fits


def test_filters_on_a_damaged_pod() -> None:
    damaged = {
        **POD,
        "name": None,
        "stage1": None,
        "labels": {},
        "apps": [{"name": "a", "image": None, "image_id": None}],
    }
    assert not any(_fits(damaged, *f) for f in (("name", "x"), ("stage1", "fly"), ("label", "x"), ("image", "x")))


def test_configuration_is_read_back_as_it_is() -> None:
    values = {
        "stage1": {"default": 'a"b\\c\x7f\x01ü#', "revoked": ["x\ny", "# no comment"], "prepare-timeout": 120.0},
        "images": {"max-bytes": 64 << 30, "off": False},
    }
    text = render(values, {"stage1.default": "/etc/podium/config.toml"})
    assert tomllib.loads(text) == values
    assert "  # /etc/podium/config.toml\n" in text and text.count("# built in") == 4


def test_progress_is_one_line() -> None:
    assert progress.line("importing x\n", 512, 1024, 3) == f"importing x\\x0a [{'#' * 12}{'.' * 12}] 50% 512 B, 3 files"
    assert progress.line("x", 2048, None, 0) == "x 2.0 KiB"


@pytest.mark.parametrize("name", VERBS)
def test_help_explains_every_option(name: str) -> None:
    command = load(name)
    text = helptext.of(command)
    assert text.startswith(f"usage: podium {name}")
    for option in command.options:
        assert f"  {option.flag}" in text or f", {option.flag}" in text
    assert max(map(len, text.splitlines())) <= 120


def test_overview_names_every_verb() -> None:
    text = helptext.overview(VERBS, ALIASES)
    assert all(name.split(" ")[-1] in text for name in VERBS)
    assert "list (ps)" in text and "enter (exec)" in text


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts_know_every_verb_and_option(shell: str) -> None:
    script = getattr(completion, shell)()
    for name in VERBS:
        assert name.split(" ")[-1] in script
        for option in load(name).options:
            assert option.flag in script or f"-l {option.flag[2:]} " in script
    if shutil.which(shell):
        subprocess.run([shell, "-n"], input=script, text=True, check=True)


def _completed(*words: str) -> set[str]:
    # Words are passed as completion gets them; podium is a function that answers as `list` would.
    script = f"""{completion.bash()}
podium() {{
    if [[ $1 == list ]]; then echo "1f2e-full web running"; echo "abcd-full - exited"; fi
    if [[ $1 == image ]]; then echo "aaaa demo/x 1,2 oci"; echo "bbbb - - oci"; fi
}}
COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _podium 2>/dev/null; printf '%s\\n' "${{COMPREPLY[@]}}"
"""
    done = subprocess.run(["bash", "-c", script, "bash", *words], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


@pytest.mark.skipif(not shutil.which("bash"), reason="no bash")
@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["podium", "li"], {"list"}),
        (["podium", "image", "imp"], {"import"}),
        (["podium", "--dir", "/x", "sta"], {"status", "stage1"}),
        (["podium", "stop", "--ti"], {"--timeout"}),
        (["podium", "stop", ""], {"1f2e-full", "web", "abcd-full"}),
        (["podium", "stop", "--timeout", "1s", "w"], {"web"}),
        (["podium", "image", "rm", ""], {"aaaa", "demo/x:1", "demo/x:2", "bbbb"}),
        (["podium", "list", "--format", ""], {"json"}),
        (["podium", "run", "x", "--restart", "on"], {"on-failure"}),
        (["podium", "image", "rm", "demo/x:2"], {"demo/x:2"}),
        (["podium", "ps", "--fu"], {"--full"}),
    ],
)
def test_bash_completes(words: list[str], expected: set[str]) -> None:
    assert _completed(*words) == expected
