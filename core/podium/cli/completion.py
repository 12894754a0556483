"""Completion scripts, from the tables that the parsers are made of."""

from __future__ import annotations

from collections.abc import Iterator

from podium.cli.command import GLOBALS, Command, Option
from podium.cli.main import ALIASES, VERBS, load

_PODS = "podium list --no-legend --full 2>/dev/null | awk '{print $1; if ($2 != \"-\") print $2}'"
_IMAGES = (
    "podium image list --no-legend 2>/dev/null | "
    'awk \'{print $1; n = split($3, tags, ","); for (i = 1; i <= n; i++) if (tags[i] != "-") print $2 ":" tags[i]}\''
)
_STAGE1S = "podium stage1 list --no-legend 2>/dev/null | awk '{print $1}'"
_SOURCES = {"pod": _PODS, "image": _IMAGES, "stage1": _STAGE1S}


def _commands() -> Iterator[tuple[str, Command]]:
    for name in VERBS:
        yield name, load(name)
    for alias, name in ALIASES.items():
        yield alias, load(name)


def _options(command: Command) -> list[Option]:
    return [*command.options, *(o for _, options in command.sections for o in options), *GLOBALS]


def _flags(options: list[Option]) -> list[str]:
    return [*dict.fromkeys(f for o in options for f in (o.flag, o.short) if f), "--help"]


def _first_words() -> list[str]:
    return [*dict.fromkeys(name.split(" ")[0] for name in (*VERBS, *ALIASES)), "help"]


def _inner(group: str) -> list[str]:
    return [name.partition(" ")[2] for name in VERBS if name.startswith(f"{group} ")]


def _groups() -> list[str]:
    return [word for word in _first_words() if _inner(word)]


def _operand(command: Command) -> str:
    if command.parse is not None:
        return "image"
    return command.operands[0].complete if command.operands else ""


def bash() -> str:
    """A script for bash; zsh reads it too."""
    groups = _groups()
    lines = [
        "# Completion of podium for bash; made by 'podium completion bash'.",
        "COMP_WORDBREAKS=${COMP_WORDBREAKS//:/}  # name:tag is one word",
        "_podium() {",
        '    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]} verb="" i word',
        "    for ((i = 1; i < COMP_CWORD; i++)); do",
        "        word=${COMP_WORDS[i]}",
        '        case "$word" in',
        f"            {'|'.join(o.flag for o in GLOBALS if o.value)}) ((i++)) ;;",
        "            -*) ;;",
        f"            {'|'.join(groups)}) if [[ -z $verb ]]; then verb=$word; else break; fi ;;",
        f'            *) case "$verb" in {"|".join(groups)}) verb="$verb $word" ;; "") verb=$word ;; esac; break ;;',
        "        esac",
        "    done",
        '    local words="" values="" kind=""',
        '    case "$verb" in',
        f'        "") words="{" ".join([*_first_words(), *_flags(list(GLOBALS))])}" ;;',
    ]
    lines += [f'        {group}) words="{" ".join(_inner(group))}" ;;' for group in groups]
    for name, command in _commands():
        options = _options(command)
        lines += [
            f'        "{name}")',
            f'            words="{" ".join(_flags(options))}" kind="{_operand(command)}"',
            '            case "$prev" in',
        ]
        for option in options:
            if option.value and not option.optional:
                flags = f"{option.flag}|{option.short}" if option.short else option.flag
                lines.append(
                    f'                {flags}) values="{" ".join(option.choices)}" kind="={option.complete}" ;;'
                )
        lines += ["            esac ;;"]
    lines += [
        "    esac",
        "    if [[ $kind == =* ]]; then kind=${kind#=}",
        "    elif [[ $cur == -* || -z $kind ]]; then values=$words kind=none; fi",
        '    case "$kind" in',
        *(f"        {kind}) values=$({source}) ;;" for kind, source in _SOURCES.items()),
        "    esac",
        '    COMPREPLY=($(compgen -W "$values" -- "$cur"))',
        "    if [[ $kind == file || ( $kind == image && ( $cur == */* || $cur == .* ) ) ]]; then",
        '        compopt -o filenames 2>/dev/null; COMPREPLY+=($(compgen -f -- "$cur"))',
        "    fi",
        "}",
        "complete -o bashdefault -F _podium podium",
        "",
    ]
    return "\n".join(lines)


def zsh() -> str:
    """A script for zsh: bash's, through zsh's own bridge to it."""
    head = "#compdef podium\n# Completion of podium for zsh; made by 'podium completion zsh'.\n"
    return f"{head}autoload -U +X compinit && compinit\nautoload -U +X bashcompinit && bashcompinit\n{bash()}"


def fish() -> str:
    """A script for fish."""
    groups = _groups()
    lines = [
        "# Completion of podium for fish; made by 'podium completion fish'.",
        "function __podium_verb",
        "    set -l verb",
        "    set -l value no",
        "    for word in (commandline -opc)[2..-1]",
        "        if test $value = yes",
        "            set value no",
        f"        else if contains -- $word {' '.join(o.flag for o in GLOBALS if o.value)}",
        "            set value yes",
        "        else if not string match -q -- '-*' $word",
        "            set -a verb $word",
        f"            contains -- $verb[1] {' '.join(groups)}; and test (count $verb) -lt 2; or break",
        "        end",
        "    end",
        '    echo "$verb"',
        "end",
        "complete -c podium -f",
    ]
    for word in _first_words():
        lines.append(f"complete -c podium -n {_at('')} -a {word} -d {_fish(_told(word))}")
    for group in groups:
        for word in _inner(group):
            lines.append(f"complete -c podium -n {_at(group)} -a {word} -d {_fish(VERBS[f'{group} {word}'])}")
    for name, command in _commands():
        kind = _operand(command)
        if kind in _SOURCES:
            lines.append(f"complete -c podium -n {_at(name)} -a {_fish(f'({_SOURCES[kind]})')}")
        if kind == "file" or command.parse is not None:
            lines.append(f"complete -c podium -n {_at(name)} -F")
        lines += [_fish_option(name, option) for option in _options(command)]
    return "\n".join([*lines, ""])


def _at(verb: str) -> str:
    return f"\"string match -q -- '{verb}' (__podium_verb)\""


def _told(word: str) -> str:
    return VERBS.get(ALIASES.get(word, word), "")


def _fish(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


def _fish_option(verb: str, option: Option) -> str:
    line = f"complete -c podium -n {_at(verb)} -l {option.flag[2:]}"
    if option.short:
        line += f" -s {option.short[1:]}"
    if option.value and not option.optional:
        line += " -r -F" if option.complete == "file" else " -x"
        if option.choices:
            line += f" -a {_fish(' '.join(option.choices))}"
        elif option.complete in _SOURCES:
            line += f" -a {_fish(f'({_SOURCES[option.complete]})')}"
    return f"{line} -d {_fish(option.help)}"
