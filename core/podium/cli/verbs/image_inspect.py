"""`podium image inspect`."""

from __future__ import annotations

from podium.cli import output
from podium.cli.command import FORMAT, Args, Command, Context, Operand


def run(context: Context, args: Args) -> int:
    """Print all that is known of an image; it is JSON in any case."""
    image = context.runtime.image(args.image)
    known = {**image.to_json(), "manifest": image.manifest}
    output.print_json({"schema": "podium.image-inspect/1", "image": known})
    return 0


COMMAND = Command(
    "image inspect",
    "show all that is known of an image",
    run,
    options=(FORMAT,),
    operands=(Operand("IMAGE", "1", "image"),),
    about="Always as JSON.",
    examples=("podium image inspect demo/busybox:1",),
)
