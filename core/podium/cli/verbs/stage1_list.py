"""`podium stage1 list`."""

from __future__ import annotations

from podium.cli import output
from podium.cli.command import FORMAT, Args, Command, Context, Option


def run(context: Context, args: Args) -> int:
    """Print the installed plugins."""
    plugins = context.runtime.stage1_list()
    if args.format:
        output.print_json({"schema": "podium.stage1-list/1", "plugins": plugins})
        return 0
    rows = [
        (
            plugin["name"],
            plugin.get("version") or "",
            str(plugin.get("interface") or ""),
            plugin.get("distribution") or "",
            plugin["problem"]["reason"] if plugin["problem"] else "usable",
        )
        for plugin in plugins
    ]
    output.table(("NAME", "VERSION", "INTERFACE", "DISTRIBUTION", "STATE"), rows, legend=not args.no_legend)
    for plugin in plugins:
        if plugin["problem"]:
            output.tell(f"stage1 {plugin['name']}: {plugin['problem']['message']}")
        for warning in plugin.get("warnings", ()):
            output.tell(f"stage1 {plugin['name']}: {warning}")
    return 0


COMMAND = Command(
    "stage1 list",
    "list the stage1 plugins",
    run,
    options=(FORMAT, Option("--no-legend", "no heading")),
    about="What is installed; 'podium stage1 check' tells what works on this host.",
    examples=("podium stage1 list",),
)
