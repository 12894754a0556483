"""`podium network list`."""

from __future__ import annotations

from podium.cli import output
from podium.cli.command import FORMAT, Args, Command, Context, Option


def run(context: Context, args: Args) -> int:
    """Print the networks; those whose file is wrong are told on standard error."""
    networks = context.runtime.networks()
    if args.format:
        output.print_json({"schema": "podium.network-list/1", "networks": networks})
        return 0
    rows = [
        (
            network["name"],
            network["version"] or "",
            ",".join(network["plugins"]),
            network["problem"]["reason"] if network["problem"] else "",
            network["file"],
        )
        for network in networks
    ]
    output.table(("NAME", "CNI", "PLUGINS", "PROBLEM", "FILE"), rows, legend=not args.no_legend)
    for network in networks:
        if network["problem"]:
            output.tell(network["problem"]["message"])
    return 0


COMMAND = Command(
    "network list",
    "list the networks",
    run,
    options=(FORMAT, Option("--no-legend", "no heading")),
    about="A network whose file is wrong is listed with the problem; only pods that ask for it are refused.",
    examples=("podium network list",),
)
