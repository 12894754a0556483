"""`podium stage1 pins`."""

from __future__ import annotations

from podium.cli import output
from podium.cli.command import FORMAT, Args, Command, Context, Option
from podium.errors import PartlyFailed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def run(context: Context, args: Args) -> int:
    """Print the stored pins, verified if that is asked."""
    pins = context.runtime.pins(args.verify)
    if args.format:
        output.print_json({"schema": "podium.stage1-pins/1", "pins": pins})
    else:
        header = ("PIN", "PLUGIN", "VERSION", "PODIUM", "USED", "STATE")
        output.table(header, [_row(pin, args.verify) for pin in pins], legend=not args.no_legend)
    damaged = [pin for pin in pins if pin["problem"]]
    for pin in damaged:
        output.tell(pin["problem"]["message"])
    return PartlyFailed.exit_code if damaged else 0


def _row(pin: dict[str, Any], verified: bool) -> tuple[str, ...]:
    plugin, problem = pin.get("plugin") or {}, pin["problem"]
    return (
        pin["pin"],
        plugin.get("name") or "",
        plugin.get("version") or "",
        pin.get("podium") or "",
        "yes" if pin["in_use"] else "no",
        problem["reason"] if problem else "whole" if verified else "",
    )


COMMAND = Command(
    "stage1 pins",
    "list the pinned plugin code",
    run,
    options=(Option("--verify", "check every file"), FORMAT, Option("--no-legend", "no heading")),
    about="A pin is the exact code that answers for the pods that were prepared with it. Exits with 6 if one is "
    "damaged.",
    examples=("podium stage1 pins --verify",),
)
