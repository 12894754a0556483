"""`podium network inspect`."""

from __future__ import annotations

from podium.cli import output
from podium.cli.command import Args, Command, Context, Operand


def run(context: Context, args: Args) -> int:
    """Print a network as JSON."""
    output.print_json({"schema": "podium.network-inspect/1", "network": context.runtime.inspect_network(args.name)})
    return 0


COMMAND = Command(
    "network inspect",
    "show a network and the pods in it",
    run,
    operands=(Operand("NAME"),),
    about="Prints JSON: the configuration, and each pod's attachment, with CNI CHECK where plugins have it.",
    examples=("podium network inspect default",),
    root=True,
)
