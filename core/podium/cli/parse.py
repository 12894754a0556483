"""From the words of a command line to `Args`.

Options may stand between and after the operands, and a mistake is told with what was meant.
"""

from __future__ import annotations

from podium.cli.command import GLOBALS, Args, Command, Option
from podium.errors import BadInput, BadUsage, PodiumError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any


def arguments(command: Command, words: list[str]) -> Args:
    """Parse what follows a verb.

    Raises:
        BadUsage: the words don't fit the command.
        BadInput: a value is not what it has to be.
    """
    if command.parse is not None:
        return command.parse(command, words)
    known = (*command.options, *GLOBALS)
    if not words:  # costs no parser
        values: dict[str, Any] = defaults(known)
        operands: list[str] = []
    elif command.passthrough:
        end = leading(words, known, command.name)
        values, operands = options(words[:end], known, command.name), words[end:]
        _check_passed(command, operands, bool(values.get("uuid_file")))
    else:
        own, dashes, rest = split(words, "--")
        values, extra = _read(own, known, command.name)
        for word in extra:
            if word.startswith("-") and word != "-":
                raise unknown(word, known, command.name)
        if command.rest:
            values["rest"], rest = rest, []
        operands = extra + rest
        if dashes and not command.operands:
            raise BadUsage(f"'podium {command.name}' takes no operands", subject="--")
    operands[:0] = [_uuid_in(path) for path in values.get("uuid_file", ())]
    if command.passthrough and len(operands) > 1 and operands[1] == "--":
        del operands[1]
    return Args(values | _operands(command, operands))


def options(words: list[str], known: Sequence[Option], place: str) -> dict[str, Any]:
    """The values of words that are options only.

    Raises:
        BadUsage: something is no option, or lacks its value.
    """
    values, extra = _read(words, known, place)
    if extra:
        raise unknown(extra[0], known, place)
    return values


def defaults(known: Sequence[Option]) -> dict[str, Any]:
    """The values when nothing is given."""
    return {o.dest: o.default.copy() if o.many else o.default for o in known}


def asks_help(command: Command, words: list[str]) -> bool:
    """Whether --help is among the words, as podium's own option."""
    known = (*command.options, *GLOBALS, *(o for _, options in command.sections for o in options))
    value_next = False
    for word in words:
        if word != "--" and value_next:
            value_next = False
        elif word in ("-h", "--help"):
            return True
        elif word == "--" or (command.passthrough and not word.startswith("-")):
            return False
        else:
            value_next = word.startswith("-") and bool(takes_value(word, known))
    return False


def takes_value(word: str, known: Sequence[Option]) -> bool | None:
    """Whether the next word is this option's value; None: it is no option that is known."""
    if word.startswith("--"):
        name, has_value, _ = word.partition("=")
        for option in known:
            if option.flag == name:
                return bool(option.value) and not has_value and not option.optional
        return None
    shorts = {o.short[1]: o for o in known if o.short}
    for position, letter in enumerate(word[1:], 2):
        found = shorts.get(letter)
        if found is None:
            return None
        if found.value:
            return position == len(word)
    return False


def leading(words: list[str], known: Sequence[Option], place: str) -> int:
    """The number of words at the beginning that are options and their values.

    Raises:
        BadUsage: one of them is no option, or lacks its value.
    """
    at = 0
    while at < len(words) and words[at].startswith("-") and words[at] not in ("-", "--", "---"):
        at = after(words, at, known, place)
    return at


def after(words: list[str], at: int, known: Sequence[Option], place: str) -> int:
    """Where the option at `at` and its value end.

    Raises:
        BadUsage: it is no option, or lacks its value.
    """
    word = words[at]
    takes = takes_value(word, known)
    if takes is None:
        raise unknown(word, known, place)
    if (takes and (at + 1 == len(words) or words[at + 1] in ("--", "---"))) or word.endswith(("=--", "=---")):
        raise BadUsage(f"{word.partition('=')[0]} needs a value", subject=word)
    return at + (2 if takes else 1)


def split(words: list[str], at: str) -> tuple[list[str], bool, list[str]]:
    """The words before and after the first `at`, and whether it was there."""
    if at not in words:
        return words, False, []
    position = words.index(at)
    return words[:position], True, words[position + 1 :]


def unknown(word: str, known: Sequence[Option], place: str) -> BadUsage:
    """The error for a word that is no option."""
    import difflib

    name = word.partition("=")[0]
    see = f"see '{f'podium {place}'.strip()} --help'"
    if not word.startswith("-"):
        return BadUsage(f"'podium {place}': unexpected {word!r}", hint=see, subject=word)
    near = difflib.get_close_matches(name, [o.flag for o in known], 1)
    hint = f"did you mean {near[0]}?" if near else see
    who = f"'podium {place}'" if place else "podium"
    return BadUsage(f"{who} has no option {name}", hint=hint, subject=name)


def _read(words: list[str], known: Sequence[Option], place: str) -> tuple[dict[str, Any], list[str]]:
    """The values of all options among `words`, and the other words. (argparse takes 5 ms to import.)"""
    spelt = {name: o for o in known for name in (o.flag, o.short) if name}
    found: dict[Option, list[str]] = {}
    extra, at = [], 0
    while at < len(words):
        word = words[at]
        if not word.startswith("-") or word == "-" or takes_value(word, known) is None:
            extra.append(word)
            at += 1
            continue
        end = after(words, at, known, place)
        following = words[at + 1] if end == at + 2 else ""
        if word.startswith("--"):
            name, equals, text = word.partition("=")
            if equals and not spelt[name].value:
                raise BadUsage(f"{name} takes no value", hint=f"see 'podium {place} --help'", subject=name)
            found.setdefault(spelt[name], []).append(text if equals else following)
        else:
            for position, letter in enumerate(word[1:], 2):
                option = spelt["-" + letter]
                found.setdefault(option, []).append(word[position:].removeprefix("=") or following)
                if option.value:
                    break
        at = end
    values = defaults(known)
    for option in known:
        if option in found:
            values[option.dest] = _value(option, found[option])
    return values, extra


def _value(option: Option, found: list[str]) -> Any:
    if not option.value:
        return True
    return [_convert(option, text) for text in found] if option.many else _convert(option, found[-1])


def _convert(option: Option, value: str) -> Any:
    if option.choices and value not in option.choices:
        raise BadUsage(f"{option.flag}: {value!r} is not one of {', '.join(option.choices)}", subject=option.flag)
    if option.convert is None:
        return value
    try:
        return option.convert(value)
    except ValueError as e:
        raise BadUsage(f"{option.flag}: {e}", subject=option.flag) from None
    except PodiumError as e:
        raise type(e)(f"{option.flag}: {e.message}", hint=e.hint, subject=option.flag) from None


def _check_passed(command: Command, words: list[str], named: bool) -> None:
    first = 0 if named else 1
    if len(words) > first and words[first].startswith("-") and words[first] != "--":
        raise BadUsage(
            f"'podium {command.name}': {words[first]} is in the wrong place",
            hint=f"options go before {command.operands[0].name}; the command follows '--'",
            subject=words[first],
        )


def _operands(command: Command, words: list[str]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    rest = list(words)
    for operand in command.operands:
        if operand.number in "1+" and not rest:
            raise BadUsage(f"'podium {command.name}' needs {operand.name}", hint=f"see 'podium {command.name} --help'")
        if operand.number in "1?":
            values[operand.dest] = rest.pop(0) if rest else ""
        else:
            values[operand.dest], rest = rest, []
    if rest:
        raise BadUsage(
            f"'podium {command.name}': unexpected {rest[0]!r}",
            hint=f"see 'podium {command.name} --help'",
            subject=rest[0],
        )
    return values


def _uuid_in(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as f:
            text = f.read(256).strip()
    except OSError as e:
        raise BadInput(f"--uuid-file: {path} can't be read: {e.strerror}", subject=path) from None
    if not text:
        raise BadInput(f"--uuid-file: {path} is empty", subject=path)
    return text
