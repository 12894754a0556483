"""What a verb is: tables of its options and operands, from which parser, help, and completion are made.

Plain classes: making one NamedTuple or dataclass costs as much as importing a small module, and `list` pays for it.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from podium.cli.progress import Progress
    from podium.runtime import Runtime


class Option:
    """An option.

    Attributes:
        flag: `--tail`.
        help: what it does, for --help.
        value: what its value is called there; empty: a switch.
        short: `-d`.
        convert: from the text; may raise ValueError or PodiumError.
        default: when it is not given; a list if it may be repeated, a switch's is False.
        many: it may be repeated, and is a list.
        optional: the value may be left out, and is given as `--flag=VALUE` only; `convert` gets "" without.
        choices: the only values that there are.
        complete: what a shell shall offer for the value: pod, image, stage1 or file.
        dest: its attribute in `Args`.
    """

    def __init__(
        self,
        flag: str,
        help: str,
        value: str = "",
        *,
        short: str = "",
        convert: Callable[[str], Any] | None = None,
        default: Any = None,
        many: bool = False,
        optional: bool = False,
        choices: tuple[str, ...] = (),
        complete: str = "",
    ) -> None:
        self.flag = flag
        self.help = help
        self.value = value
        self.short = short
        self.convert = convert
        self.default: Any = ([] if many else None if value else False) if default is None else default
        self.many = many
        self.optional = optional
        self.choices = choices
        self.complete = complete
        self.dest = flag[2:].replace("-", "_")


class Operand:
    """What stands after the options.

    Attributes:
        name: as help calls it.
        number: "1", "?" (may be left out), "+" (one or more) or "*" (any number).
        complete: as in `Option`.
        dest: its attribute in `Args`: a text ("" if left out), or a list for "+" and "*".
    """

    def __init__(self, name: str, number: str = "1", complete: str = "") -> None:
        self.name = name
        self.number = number
        self.complete = complete
        self.dest = name.lower()


class Args:
    """The values of a verb's options and operands."""

    def __init__(self, values: dict[str, Any]) -> None:
        self.__dict__.update(values)

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(name)


class Context:
    """What is the same for all verbs.

    Attributes:
        dir: --dir.
        config: --config.
        debug: --debug.
        json: whether errors are told as JSON.
        progress: what to call during long work; see podium.cli.progress.
    """

    def __init__(self, dir: str | None, config: str | None, debug: bool, json: bool) -> None:
        self.dir = dir
        self.config = config
        self.debug = debug
        self.json = json
        self.progress: Progress | None = None
        self._runtime: Runtime | None = None

    @property
    def runtime(self) -> Runtime:
        """The façade, made when it is first needed."""
        if self._runtime is None:
            from podium.cli import output
            from podium.runtime import Runtime

            self._runtime = Runtime(self.dir, self.config, self.progress, output.tell)
        return self._runtime


class Command:
    """A verb.

    Attributes:
        name: `image import`.
        summary: one line, for `podium --help`.
        run: does it and returns the exit code.
        options: its own; the global ones are known to all.
        operands: in order; only the last may be of a variable number.
        about: what more there is to say.
        examples: command lines.
        root: it needs root's privileges.
        own_failure: the exit code of podium's own failures, where the others are an app's.
        passthrough: the first operand ends the options; what follows is for another command.
        rest: what follows `--` are arguments of another command, the list `rest` of the `Args`.
        usage: in place of the one made from the tables.
        sections: further options with a grammar of their own: (title, options), for help and completion.
        parse: in place of the parser made from the tables.
    """

    def __init__(
        self,
        name: str,
        summary: str,
        run: Callable[[Context, Args], int],
        *,
        options: tuple[Option, ...] = (),
        operands: tuple[Operand, ...] = (),
        about: str = "",
        examples: tuple[str, ...] = (),
        root: bool = False,
        own_failure: int | None = None,
        passthrough: bool = False,
        rest: bool = False,
        usage: str = "",
        sections: tuple[tuple[str, tuple[Option, ...]], ...] = (),
        parse: Callable[[Command, list[str]], Args] | None = None,
    ) -> None:
        self.name = name
        self.summary = summary
        self.run = run
        self.options = options
        self.operands = operands
        self.about = about
        self.examples = examples
        self.root = root
        self.own_failure = own_failure
        self.passthrough = passthrough
        self.rest = rest
        self.usage = usage
        self.sections = sections
        self.parse = parse


def filled(text: str) -> str:
    """A value that must not be empty: `--dir "$UNSET"` is a mistake, not the default."""
    if not text:
        raise ValueError("the value is empty")
    return text


GLOBALS = (
    Option("--dir", "the data directory (PODIUM_DIR; default /var/lib/podium)", "DIR", convert=filled, complete="file"),
    Option("--config", "a configuration file over the system's", "FILE", convert=filled, complete="file"),
    Option("--debug", "show tracebacks, and each call of a plugin's hook"),
)
UUID_FILE = Option("--uuid-file", "read the pod's uuid from FILE; stands for a POD", "FILE", many=True, complete="file")
FORMAT = Option("--format", "print JSON (docs/cli.md has the schemas)", "json", choices=("json",))
POD = Operand("POD", "1", "pod")
PODS = Operand("POD", "+", "pod")
TLS_VERIFY = Option(
    "--tls-verify",
    "whether the registry must be who it says; false: HTTP will do too",
    "BOOL",
    choices=("true", "false"),
)
