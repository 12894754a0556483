"""`podium image cat-manifest`."""

from __future__ import annotations

from podium.cli.command import Args, Command, Context, Operand


def run(context: Context, args: Args) -> int:
    """Print an image's appc manifest."""
    import json

    print(json.dumps(context.runtime.image(args.image).manifest, indent=1))
    return 0


COMMAND = Command(
    "image cat-manifest",
    "print an image's manifest",
    run,
    operands=(Operand("IMAGE", "1", "image"),),
    about="The appc image manifest; an OCI image's configuration is shown as one.",
    examples=("podium image cat-manifest demo/busybox:1",),
)
