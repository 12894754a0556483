"""`podium image gc`."""

from __future__ import annotations

from podium.cli.command import Args, Command, Context, Option
from podium.cli.values import seconds


def run(context: Context, args: Args) -> int:
    """Remove images that no pod uses, and print their ids."""
    for image_id in context.runtime.image_gc(args.grace_period):
        print(image_id)
    return 0


COMMAND = Command(
    "image gc",
    "remove images that nobody uses",
    run,
    options=(
        Option(
            "--grace-period", "keep what was used less than TIME ago (24h)", "TIME", convert=seconds, default=86400.0
        ),
    ),
    examples=("podium image gc --grace-period 7d",),
    root=True,
)
