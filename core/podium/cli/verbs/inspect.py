"""`podium inspect`."""

from __future__ import annotations

from podium.cli import output
from podium.cli.command import FORMAT, POD, UUID_FILE, Args, Command, Context


def run(context: Context, args: Args) -> int:
    """Print all that is known of a pod; it is JSON in any case."""
    output.print_json(context.runtime.inspect(args.pod))
    return 0


COMMAND = Command(
    "inspect",
    "show all that is known of a pod",
    run,
    options=(FORMAT, UUID_FILE),
    operands=(POD,),
    about="Envelope, runtime, ledger, apps and what can't be read of them, always as JSON.",
    examples=("podium inspect web",),
)
