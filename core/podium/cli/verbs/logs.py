"""`podium logs`."""

from __future__ import annotations

import sys

from podium.cli.command import POD, UUID_FILE, Args, Command, Context, Option
from podium.cli.values import moment, whole
from podium.errors import BadUsage


def run(context: Context, args: Args) -> int:
    """Print what apps have printed, byte for byte."""
    if args.console:
        return _console(context, args)
    named = args.app is None and len(context.runtime.status(args.pod).apps) > 1
    out = sys.stdout.buffer
    partial: set[tuple[str, str]] = set()  # streams in the middle of a line
    for line in context.runtime.logs(args.pod, args.app, args.follow, args.since, args.tail):
        stream = (line.app, line.stream)
        if stream not in partial:
            if args.timestamps:
                out.write(f"{line.time} ".encode())
            if named:
                out.write(f"{line.app}: ".encode())
        out.write(line.text)
        if line.partial:
            partial.add(stream)
        else:
            partial.discard(stream)
            out.write(b"\n")
        if args.follow:
            out.flush()
    out.flush()
    return 0


def _console(context: Context, args: Args) -> int:
    given = {"--app": args.app, "--follow": args.follow, "--since": args.since, "--timestamps": args.timestamps}
    beside = [option for option, value in given.items() if value]
    if beside:
        raise BadUsage(f"{beside[0]} can't be used with --console", hint="--tail can", subject=beside[0])
    for line in context.runtime.console(args.pod, args.tail):
        sys.stdout.buffer.write(line + b"\n")
    return 0


COMMAND = Command(
    "logs",
    "show what apps have printed",
    run,
    options=(
        Option("--app", "of this app only", "NAME"),
        Option("--follow", "go on until the pod has ended", short="-f"),
        Option("--since", "from this time on: RFC 3339, or how long ago (10m)", "TIME", convert=moment),
        Option("--tail", "the last N lines only", "N", convert=whole(0)),
        Option("--timestamps", "begin each line with its time"),
        Option("--console", "what the console of the pod's virtual machine shows, in place of the apps' output"),
        UUID_FILE,
    ),
    operands=(POD,),
    about="Of several apps, each line begins with the app's name. Of a console, the last 256 to 512 KiB are kept.",
    examples=("podium logs --follow --tail 20 web", "podium logs --console --tail 50 web"),
)
