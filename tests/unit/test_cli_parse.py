"""Parsing of command lines: options, operands, and where a mistake's hint points."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest

from podium.cli import parse, values
from podium.cli.command import POD, PODS, UUID_FILE, Args, Command, Context, Operand, Option
from podium.cli.main import VERBS, find, load
from podium.errors import BadInput, BadUsage


def _nothing(context: Context, args: Args) -> int:
    return 0


def _command(**fields: Any) -> Command:
    return Command("try", "try it", _nothing, **fields)


STOP_OPTIONS = (
    Option("--force", "kill", short="-f"),
    Option("--timeout", "time", "TIME", convert=values.seconds, default=10.0),
    Option("--wait", "wait", "TIME", convert=values.optional_seconds, optional=True),
    Option("--filter", "filter", "K=V", convert=values.key_value, many=True),
    UUID_FILE,
)
STOP = _command(options=STOP_OPTIONS, operands=(PODS,))
ENTER = _command(
    options=(Option("--app", "app", "NAME"), UUID_FILE), operands=(POD, Operand("CMD", "*")), passthrough=True
)


def test_options_may_stand_between_operands() -> None:
    args = parse.arguments(STOP, ["a", "--timeout", "1m", "b", "-f", "c", "--filter", "x=1", "--filter=y=2=3"])
    assert (args.pod, args.timeout, args.force) == (["a", "b", "c"], 60.0, True)
    assert args.filter == [("x", "1"), ("y", "2=3")]
    assert args.wait is None and args.dir is None and args.debug is False


def test_after_two_dashes_everything_is_an_operand() -> None:
    assert parse.arguments(STOP, ["--force", "--", "-a", "--timeout"]).pod == ["-a", "--timeout"]


def test_an_option_s_value_may_look_like_an_option_but_not_like_the_end_of_them() -> None:
    command = _command(options=(Option("--exec", "command", "CMD", short="-e"),), operands=(Operand("PATH"),))
    assert parse.arguments(command, ["--exec", "--exec", "x"]).exec == "--exec"
    assert parse.arguments(command, ["-e", "-5", "x"]).exec == "-5"
    for words in (["--exec", "--", "x"], ["--exec=--", "x"], ["x", "-e"]):
        with pytest.raises(BadUsage, match="needs a value"):
            parse.arguments(command, words)


def test_no_words_give_the_defaults_and_never_the_same_list() -> None:
    command = _command(options=STOP_OPTIONS)
    first, second = parse.arguments(command, []), parse.arguments(command, [])
    assert first.timeout == 10.0 and first.force is False and first.filter == []
    first.filter.append("x")
    assert second.filter == []


def test_a_value_that_may_be_left_out_is_never_the_next_word() -> None:
    assert parse.arguments(STOP, ["--wait", "web"]).pod == ["web"]
    assert parse.arguments(STOP, ["--wait", "web"]).wait == math.inf
    assert parse.arguments(STOP, ["--wait=30s", "web"]).wait == 30.0


@pytest.mark.parametrize(
    ("words", "message", "hint"),
    [
        ([], "'podium try' needs POD", "see 'podium try --help'"),
        (["a", "--forse"], "'podium try' has no option --forse", "did you mean --force?"),
        (["a", "--forc"], "'podium try' has no option --forc", "did you mean --force?"),
        (["a", "--timeout"], "--timeout needs a value", None),
        (["a", "--timeout", "soon"], "--timeout: 'soon' is no duration", "write for example 30s, 10m, 1h30m or 2d"),
        (["a", "--filter", "x"], "--filter: 'x' is not of the form NAME=VALUE", None),
        (["a", "--dir="], "--dir: the value is empty", None),
    ],
)
def test_mistakes_are_told_with_what_was_meant(words: list[str], message: str, hint: str | None) -> None:
    with pytest.raises((BadUsage, BadInput)) as caught:
        parse.arguments(STOP, words)
    assert (caught.value.message, caught.value.hint) == (message, hint)
    assert caught.value.exit_code == 2


def test_too_many_operands_are_refused() -> None:
    with pytest.raises(BadUsage, match="unexpected 'b'"):
        parse.arguments(_command(operands=(POD,)), ["a", "b"])
    with pytest.raises(BadUsage):
        parse.arguments(_command(), ["--", "a"])


@pytest.mark.parametrize(
    "words",
    [["--app", "x", "web", "ls", "-l", "--app"], ["--app=x", "web", "--", "ls", "-l", "--app"]],
)
def test_what_follows_the_pod_is_the_command_s(words: list[str]) -> None:
    args = parse.arguments(ENTER, words)
    assert (args.pod, args.app, args.cmd) == ("web", "x", ["ls", "-l", "--app"])


def test_a_command_s_own_two_dashes_are_kept() -> None:
    assert parse.arguments(ENTER, ["web", "--", "sh", "--", "-c"]).cmd == ["sh", "--", "-c"]


def test_an_option_after_the_pod_is_refused_with_its_place() -> None:
    with pytest.raises(BadUsage) as caught:
        parse.arguments(ENTER, ["web", "--app", "x"])
    assert caught.value.hint == "options go before POD; the command follows '--'"


def test_a_uuid_file_stands_for_a_pod(tmp_path: Any) -> None:
    for name in "ab":
        (tmp_path / name).write_text(f" {name * 4}\n")
    both = parse.arguments(STOP, ["c", f"--uuid-file={tmp_path}/a", "--uuid-file", f"{tmp_path}/b"])
    assert both.pod == ["aaaa", "bbbb", "c"]
    entered = parse.arguments(ENTER, ["--uuid-file", f"{tmp_path}/a", "--", "ls", "-l"])
    assert (entered.pod, entered.cmd) == ("aaaa", ["ls", "-l"])
    assert parse.arguments(ENTER, ["--uuid-file", f"{tmp_path}/a", "ls"]).cmd == ["ls"]


def test_a_uuid_file_that_says_nothing_is_refused(tmp_path: Any) -> None:
    (tmp_path / "empty").write_text("\n")
    for name, message in (("empty", "is empty"), ("gone", "No such file")):
        with pytest.raises(BadInput, match=message):
            parse.arguments(STOP, ["--uuid-file", f"{tmp_path}/{name}"])


@pytest.mark.parametrize(
    ("command", "words", "asks"),
    [
        (STOP, ["a", "--help"], True),
        (STOP, ["--timeout", "-h", "a"], False),
        (STOP, ["--timeout", "--", "-h"], False),
        (STOP, ["--", "-h"], False),
        (ENTER, ["-h"], True),
        (ENTER, ["--app", "x", "-h"], True),
        (ENTER, ["web", "ls", "--help"], False),
        (load("run"), ["image", "--help"], True),
        (load("run"), ["image", "--exec", "--help"], False),
        (load("run"), ["image", "--", "--help"], False),
    ],
)
def test_help_is_podium_s_own_only_where_an_option_may_stand(command: Command, words: list[str], asks: bool) -> None:
    assert parse.asks_help(command, words) is asks


def test_global_options_stand_before_the_verb_or_after_it() -> None:
    context = Context(None, None, False, False)
    command, rest = find(["--dir", "/a", "--debug", "image", "list", "--full"], context)
    assert command is not None and command.name == "image list" and rest == ["--full"]
    assert (context.dir, context.debug) == ("/a", True)
    assert parse.arguments(command, ["--dir=/b"]).dir == "/b"


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (["lst"], "did you mean 'podium list'?"),
        (["image", "lst"], "did you mean 'podium image list'?"),
        (["stats"], "did you mean 'podium status'?"),
        (["qwertz"], "'podium --help' lists the verbs"),
        (["image", "qwertz"], "'podium image --help' lists the verbs"),
        (["-x", "list"], "see 'podium --help'"),
        (["--debg", "list"], "did you mean --debug?"),
        ([], "'podium --help' lists them"),
    ],
)
def test_a_verb_that_is_not_there_is_refused_with_the_nearest(words: list[str], hint: str) -> None:
    with pytest.raises(BadUsage) as caught:
        find(words, Context(None, None, False, False))
    assert caught.value.hint == hint


def test_every_verb_has_its_module_summary_and_sound_tables() -> None:
    for name, summary in VERBS.items():
        command = load(name)
        assert (command.name, command.summary) == (name, summary)
        flags = [f for o in (*command.options, *parse.GLOBALS) for f in (o.flag, o.short) if f]
        assert len(flags) == len(set(flags)), name
        assert all(o.number == "1" for o in command.operands[:-1]), name
        assert command.examples, name
        assert all(isinstance(o.default, list) for o in command.options if o.many), name


@pytest.mark.parametrize(
    ("convert", "text", "value"),
    [
        (values.commas, r"a,b\,c,,d\\", ["a", "b,c", "", "d\\"]),
        (values.commas, "a\\", ["a\\"]),
        (values.whole(0), "7", 7),
        (values.whole(-5), "-5", -5),
        (values.signal_number, "sigterm", 15),
        (values.signal_number, "9", 9),
        (values.moment, "2026-01-31T12:00:00Z", 1769860800.0),
        (values.moment, "2026-01-31T13:00:00+01:00", 1769860800.0),
    ],
)
def test_values_are_read(convert: Callable[[str], Any], text: str, value: object) -> None:
    assert convert(text) == value


@pytest.mark.parametrize(
    ("convert", "text"),
    [
        (values.whole(1, 5), "6"),
        (values.whole(0), ""),
        (values.whole(0), "1e3"),
        (values.whole(0), "٣"),
        (values.whole(0), "9" * 5000),
        (values.signal_number, "SIGNOTHING"),
        (values.signal_number, "RTMIN+x"),
        (values.moment, "yesterday"),
        (values.key_value, "=x"),
        (values.flag, "yes"),
    ],
)
def test_values_that_are_none_are_refused(convert: Callable[[str], Any], text: str) -> None:
    with pytest.raises((ValueError, BadInput)):
        convert(text)
