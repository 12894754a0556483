"""`podium network gc`."""

from __future__ import annotations

from podium.cli import output
from podium.cli.command import FORMAT, Args, Command, Context
from podium.errors import PartlyFailed


def run(context: Context, args: Args) -> int:
    """Run it, and tell of each network how it went."""
    networks = context.runtime.network_gc()
    if args.format:
        output.print_json({"schema": "podium.network-gc/1", "networks": networks})
    else:
        for network in networks:
            print(network["name"], network["result"])
            if network["message"]:
                output.tell(f"network {network['name']}: {network['message']}")
    return PartlyFailed.exit_code if any(network["result"] == "failed" for network in networks) else 0


COMMAND = Command(
    "network gc",
    "let network plugins free what no pod has",
    run,
    options=(FORMAT,),
    about="Runs GC of CNI 1.1.0. What pods have left is given back by 'podium gc', for plugins of all versions.",
    examples=("podium network gc",),
    root=True,
)
