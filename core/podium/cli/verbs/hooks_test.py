"""`podium hooks test`."""

from __future__ import annotations

from podium.cli import output
from podium.cli.command import Args, Command, Context, Operand, Option
from podium.errors import Failed
from podium.events.record import KINDS


def run(context: Context, args: Args) -> int:
    """Run a hook's command once."""
    message, stderr = context.runtime.test_hook(args.name, args.kind)
    if stderr:
        output.tell(f"its standard error: {stderr}")
    if message is not None:
        raise Failed(f"the hook {args.name}: {message}", subject=args.name)
    return 0


COMMAND = Command(
    "hooks test",
    "run a hook on a made-up event",
    run,
    options=(Option("--kind", "kind of the event", "KIND", choices=KINDS, default="pod-exited"),),
    operands=(Operand("NAME"),),
    about='Filters are not looked at; the event\'s details are {"test": true}.',
    examples=("podium hooks test tell",),
)
