"""`podium image gc`."""

from __future__ import annotations

from podium.cli import output
from podium.cli.command import FORMAT, Args, Command, Context, Option
from podium.cli.values import seconds


def run(context: Context, args: Args) -> int:
    """Remove what nothing refers to, and tell what that was."""
    grace = 86400.0 if args.grace_period is None else args.grace_period
    collected, pins = context.runtime.image_gc(grace, args.dry_run)
    if args.format:
        kept = [{"id": id, "reason": reason} for id, reason in collected.kept]
        output.print_json({"schema": "podium.image-gc/1", **collected._asdict(), "kept": kept, "pins": [*pins]})
        return 0
    for thing in (*collected.images, *collected.trees, *collected.blobs, *collected.kernels, *pins):
        print(thing)
    for id, reason in collected.kept:
        output.tell(f"kept: {id}: {reason}")
    return 0


COMMAND = Command(
    "image gc",
    "remove images, blobs, trees, kernels and pins that nothing needs",
    run,
    options=(
        Option("--grace-period", "keep what was used less than TIME ago (24h)", "TIME", convert=seconds),
        Option("--dry-run", "tell what would be removed, and do nothing"),
        FORMAT,
    ),
    about="An image that has a name, or that any pod refers to, is never removed.",
    examples=("podium image gc --grace-period 0s",),
    root=True,
)
