"""`--help`, from the same tables as the parsers."""

from __future__ import annotations

from collections.abc import Sequence

from podium.cli.command import GLOBALS, Command, Option

_COLUMN = 34


def overview(verbs: dict[str, str], aliases: dict[str, str]) -> str:
    """The text of `podium --help`."""
    lines = [
        "usage: podium [--dir DIR] [--config FILE] [--debug] VERB ...",
        "",
        "Runs pods: one or more apps, each from its own image, in a container, a virtual machine or a chroot.",
        "",
        "verbs:",
    ]
    groups = dict.fromkeys(name.split(" ")[0] for name in verbs)
    for group in groups:
        if group in verbs:
            also = "".join(f" ({alias})" for alias, verb in aliases.items() if verb == group)
            lines.append(f"  {group + also:18}{verbs[group]}")
        else:
            inner = " | ".join(name.partition(" ")[2] for name in verbs if name.startswith(f"{group} "))
            lines.append(f"  {group:18}{inner}")
    lines += ["", *_section("options, before or after the verb", GLOBALS), ""]
    lines += ["'podium VERB --help' tells more of each. Exit codes and JSON: docs/cli.md.", ""]
    return "\n".join(lines)


def group(name: str, verbs: dict[str, str]) -> str:
    """The text of `podium image --help`."""
    inner = {full.partition(" ")[2]: text for full, text in verbs.items() if full.startswith(f"{name} ")}
    lines = [f"usage: podium {name} VERB ...", "", "verbs:", *(f"  {verb:18}{text}" for verb, text in inner.items())]
    return "\n".join([*lines, "", f"'podium {name} VERB --help' tells more of each.", ""])


def of(command: Command) -> str:
    """The text of `podium VERB --help`."""
    lines = [f"usage: podium {command.name} {command.usage or usage(command)}".rstrip(), ""]
    lines += _wrap(command.summary[0].upper() + command.summary[1:] + ".", 0)
    if command.about:
        lines += ["", *_wrap(command.about, 0)]
    if command.options:
        lines += ["", *_section("options", command.options)]
    for title, options in command.sections:
        lines += ["", *_section(title, options)]
    lines += ["", *_section("everywhere", GLOBALS)]
    if command.examples:
        lines += ["", "examples:", *(f"  {example}" for example in command.examples)]
    return "\n".join([*lines, ""])


def usage(command: Command) -> str:
    """What follows the verb, in brief."""
    words = [f"[{_spelt(o)}]{'...' if o.many else ''}" for o in command.options if o.flag != "--uuid-file"]
    for operand in command.operands:
        name = f"{operand.name}..." if operand.number in "+*" else operand.name
        words.append(f"[{name}]" if operand.number in "?*" else name)
    return " ".join(words)


def _spelt(option: Option) -> str:
    if not option.value:
        return option.flag
    return f"{option.flag}[={option.value}]" if option.optional else f"{option.flag} {option.value}"


def _section(title: str, options: Sequence[Option]) -> list[str]:
    lines = [f"{title}:"]
    for option in options:
        name = "  " + (f"{option.short}, " if option.short else "") + _spelt(option)
        text = option.help + (f": {', '.join(option.choices)}" if len(option.choices) > 1 else "")
        text += " (may be repeated)" if option.many else ""
        wrapped = _wrap(text, _COLUMN)
        if len(name) <= _COLUMN - 2:
            wrapped[0] = name.ljust(_COLUMN) + wrapped[0].lstrip()
        else:
            wrapped.insert(0, name)
        lines += wrapped
    return lines


def _wrap(text: str, indent: int) -> list[str]:
    lines = [""]
    for word in text.split():
        if lines[-1] and len(lines[-1]) + 1 + len(word) > 100 - indent:
            lines.append("")
        lines[-1] += f" {word}" if lines[-1] else word
    return [" " * indent + line for line in lines]
