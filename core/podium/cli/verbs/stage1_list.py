"""`podium stage1 list`."""

from __future__ import annotations

from podium.cli import output
from podium.cli.command import FORMAT, Args, Command, Context, Option


def run(context: Context, args: Args) -> int:
    """Print the installed plugins; none is loaded for it."""
    plugins = context.runtime.stage1_list()
    if args.format:
        output.print_json({"schema": "podium.stage1-list/1", "plugins": plugins})
        return 0
    rows = [(p["name"], p["version"] or "", p["entry"] or "", p["distribution"] or "") for p in plugins]
    output.table(("NAME", "VERSION", "MODULE", "DISTRIBUTION"), rows, legend=not args.no_legend)
    return 0


COMMAND = Command(
    "stage1 list",
    "list the stage1 plugins",
    run,
    options=(FORMAT, Option("--no-legend", "no heading")),
    about="What is installed; 'podium stage1 check' tells what works on this host.",
    examples=("podium stage1 list",),
)
