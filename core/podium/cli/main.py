"""The `podium` command: finds the verb, calls it, and turns errors into text and exit codes."""

from __future__ import annotations

import gc
import os
import sys

from podium.cli import output
from podium.cli.command import GLOBALS, Command, Context
from podium.errors import BadUsage, HostLacks, PodiumError

# Each verb and what it does; its code is in podium.cli.verbs, in the module of its name.
VERBS = {
    "run": "run a new pod",
    "prepare": "make a pod, to be run later",
    "run-prepared": "run a pod that was prepared",
    "list": "list the pods",
    "status": "show one pod",
    "logs": "show what apps have printed",
    "enter": "run a command beside an app, in its environment",
    "stop": "end pods",
    "kill": "send a signal to the apps of pods",
    "wait": "wait until pods have ended",
    "rm": "remove pods now",
    "gc": "collect what ended, failed or was abandoned",
    "cat-manifest": "print a pod's manifest",
    "inspect": "show all that is known of a pod",
    "export": "write an app's rootfs, with what it changed, as a tar archive",
    "image import": "take an image into the store",
    "image fetch": "fetch an image from a registry",
    "image list": "list the images",
    "image inspect": "show all that is known of an image",
    "image cat-manifest": "print an image's manifest",
    "image export": "write an image as an OCI archive or an ACI",
    "image extract": "copy an image into a folder",
    "image push": "push an image to a registry",
    "image rm": "remove images",
    "image tag": "give an image another name",
    "image verify": "hold images against their digests",
    "image gc": "remove images, blobs, trees, kernels and pins that nothing needs",
    "generate systemd": "write a systemd unit for a pod",
    "events": "show what happened to pods and images",
    "hooks list": "list who is told of events, and what went wrong",
    "hooks test": "run a hook on a made-up event",
    "network list": "list the networks",
    "network inspect": "show a network and the pods in it",
    "network gc": "let network plugins free what no pod has",
    "stage1 list": "list the stage1 plugins",
    "stage1 check": "tell what this host lacks for them",
    "stage1 pins": "list the pinned plugin code",
    "fsck": "check everything that is stored",
    "migrate": "bring the data directory to this podium's format",
    "stage1 call": "call one hook of a plugin by hand",
    "stage1 new": "write a new plugin, to begin with",
    "stage1 test": "hold a plugin against the conformance suite",
    "config": "show the configuration and where it is from",
    "version": "show podium's version",
    "completion": "print a completion script for a shell",
}
ALIASES = {"ps": "list", "exec": "enter"}
INTERRUPTED = 130
BROKEN_PIPE = 141


def main(argv: list[str] | None = None) -> int:
    """Run podium.

    Args:
        argv: the command line without the program's name; None: the process's.

    Returns:
        The exit code; docs/cli.md has them all.
    """
    gc.set_threshold(100_000)  # a short command makes little garbage, and looking for it takes a tenth of its time
    if argv is not None:
        return _main(argv)
    code = _main(sys.argv[1:])
    # Without taking the interpreter apart object by object: nobody needs it, and it takes a tenth of the time too.
    os._exit(code)


def _main(argv: list[str]) -> int:
    _open_standard_streams()
    words = list(argv)
    context = Context(None, None, "--debug" in _own(words), _wants_json(words))
    code, failure = 1, None
    try:
        command, rest = find(words, context)
        failure = command.own_failure if command else None
        code = _call(command, rest, context) if command else _help(rest)
        sys.stdout.flush()
        return code
    except PodiumError as e:
        _traceback(context)
        output.report(e, context.json)
        return e.exit_code if failure is None or e.exit_code in (126, 127) else failure
    except KeyboardInterrupt:
        _traceback(context)
        return INTERRUPTED
    except OSError as e:
        if isinstance(e, BrokenPipeError) and _nobody_reads():
            return BROKEN_PIPE
        _traceback(context)
        output.report(output.as_podium_error(e), context.json)
        return failure or 1
    except Exception as e:  # a mistake of podium's own: told in one line, since nobody expects a traceback from a tool
        _traceback(context)
        hint = "this is a bug in podium; --debug shows where"
        output.report(PodiumError(f"internal error: {type(e).__name__}: {e}", hint=hint), context.json)
        return failure or 1
    finally:
        _close_output()


def find(words: list[str], context: Context) -> tuple[Command | None, list[str]]:
    """The verb and the words after it; None for `podium --help`, with the words that it is asked about.

    Raises:
        BadUsage: there is no such verb, or a global option is wrong.
    """
    from_verb = _take_globals(words, context)
    if not from_verb:
        raise BadUsage("which verb?", hint="'podium --help' lists them")
    verb, *rest = from_verb
    if verb in ("-h", "--help", "help"):
        return None, [word for word in rest if not word.startswith("-")]
    if verb == "--version":
        verb = "version"
    name = ALIASES.get(verb, verb)
    if name not in VERBS:
        inner = [full for full in VERBS if full.startswith(f"{name} ")]
        if not inner:
            raise _no_verb(verb, [*VERBS, *ALIASES])
        if not rest or rest[0] in ("-h", "--help"):
            return None, [name]
        name, rest = f"{name} {rest[0]}", rest[1:]
        if name not in inner:
            raise _no_verb(name.partition(" ")[2], [full.partition(" ")[2] for full in inner], f"{verb} ")
    return load(name), rest


def load(name: str) -> Command:
    """The verb of that name, from its module."""
    module = f"podium.cli.verbs.{name.replace(' ', '_').replace('-', '_')}"
    command = __import__(module, fromlist=["COMMAND"]).COMMAND
    assert isinstance(command, Command)
    return command


def _no_verb(verb: str, known: list[str], group: str = "") -> BadUsage:
    import difflib

    near = difflib.get_close_matches(verb, known, 1)
    return BadUsage(
        f"podium has no verb {group + verb!r}",
        hint=f"did you mean 'podium {group}{near[0]}'?" if near else f"'podium {group}--help' lists the verbs",
        subject=verb,
    )


def _take_globals(words: list[str], context: Context) -> list[str]:
    if not words or not words[0].startswith("-"):
        return words
    from podium.cli import parse

    helps = ("-h", "--help", "--version")
    end = next((i for i, w in enumerate(words) if w in helps), len(words))
    end = min(end, parse.leading(words[:end], GLOBALS, ""))
    _set(context, parse.options(words[:end], GLOBALS, ""))
    return words[end:]


def _set(context: Context, values: dict[str, object]) -> None:
    """Global options after the verb win over those before it."""
    for key in ("dir", "config", "debug"):
        if values.get(key):
            setattr(context, key, values[key])


def _call(command: Command, words: list[str], context: Context) -> int:
    from podium.cli import parse

    if parse.asks_help(command, words):
        from podium.cli import helptext

        print(helptext.of(command), end="")
        return 0
    args = parse.arguments(command, words)
    _set(context, vars(args))
    if context.debug:
        from podium.trace import show_hooks

        show_hooks()
    if command.root and os.geteuid() != 0:
        raise HostLacks(f"'podium {command.name}' needs root", hint="try again with sudo")
    return command.run(context, args)


def _help(words: list[str]) -> int:
    from podium.cli import helptext

    if not words:
        text = helptext.overview(VERBS, ALIASES)
    else:
        name = " ".join(ALIASES.get(word, word) for word in words)
        if name in VERBS:
            text = helptext.of(load(name))
        elif any(full.startswith(f"{name} ") for full in VERBS):
            text = helptext.group(name, VERBS)
        else:
            raise _no_verb(name, [*VERBS, *ALIASES])
    print(text, end="")
    return 0


def _own(words: list[str]) -> list[str]:
    """The words that are podium's, not an app's."""
    return words[: words.index("--")] if "--" in words else words


def _wants_json(words: list[str]) -> bool:
    own = _own(words)
    return "--format=json" in own or any(own[i : i + 2] == ["--format", "json"] for i in range(len(own)))


def _open_standard_streams() -> None:
    """Descriptors 0 to 2 must be something: a file that is opened later and lands on 2 would get our messages."""
    for fd in (0, 1, 2):
        try:
            os.fstat(fd)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest free number, which is fd
    for name, fd in (("stdout", 1), ("stderr", 2)):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(fd, "w", encoding="utf-8", closefd=False))  # noqa: SIM115
        elif hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def _nobody_reads() -> bool:
    """Whether the reader of our output has gone, as in `podium list | head -1`, and not a worker."""
    import select

    poll = select.poll()
    for fd in (1, 2):
        poll.register(fd, 0)
    return any(events & select.POLLERR for _, events in poll.poll(0))


def _close_output() -> None:
    """What could not be written was told, or nobody reads it; the interpreter must not try again at its end."""
    for fd, stream in ((1, sys.stdout), (2, sys.stderr)):
        try:
            stream.flush()
        except OSError:
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, fd)
            os.close(null)


def _traceback(context: Context) -> None:
    if context.debug:
        import traceback

        traceback.print_exc()
