"""`podium stop`."""

from __future__ import annotations

from podium.cli.command import PODS, UUID_FILE, Args, Command, Context, Option
from podium.cli.targets import each_pod
from podium.cli.values import seconds


def run(context: Context, args: Args) -> int:
    """End pods, and print their uuids."""
    return each_pod(
        context, args.pod, lambda uuid: context.runtime.stop(uuid, args.timeout, args.force), gone_is_done=True
    )


COMMAND = Command(
    "stop",
    "end pods",
    run,
    options=(
        Option("--force", "kill at once"),
        Option("--timeout", "kill after TIME (10s)", "TIME", convert=seconds, default=10.0),
        UUID_FILE,
    ),
    operands=(PODS,),
    examples=("podium stop --timeout 30s web cache",),
    root=True,
)
