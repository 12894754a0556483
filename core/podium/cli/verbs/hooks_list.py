"""`podium hooks list`."""

from __future__ import annotations

from podium.cli import output
from podium.cli.command import FORMAT, Args, Command, Context, Option

_SHOWN = 10  # failures; JSON has all that are kept


def run(context: Context, args: Args) -> int:
    """Print hooks and event plugins, then what went wrong."""
    found = context.runtime.hooks()
    if args.format:
        output.print_json(found)
        return 0
    rows = [("command", hook["name"], hook["path"]) for hook in found["hooks"]]
    rows += [("plugin", plugin["name"], plugin["distribution"]) for plugin in found["plugins"]]
    output.table(("KIND", "NAME", "FROM"), rows, legend=not args.no_legend)
    for problem in found["problems"]:
        output.tell(problem["message"])
    for failure in found["failures"][-_SHOWN:]:
        output.tell(f"{failure['time']} {failure['consumer']}: {failure['message']} (event {failure['event']})")
    return 0


COMMAND = Command(
    "hooks list",
    "list who is told of events, and what went wrong",
    run,
    options=(FORMAT, Option("--no-legend", "no heading")),
    examples=("podium hooks list",),
)
