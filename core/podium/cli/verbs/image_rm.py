"""`podium image rm`."""

from __future__ import annotations

from podium.cli.command import Args, Command, Context, Operand
from podium.cli.targets import each


def run(context: Context, args: Args) -> int:
    """Remove images, and print their ids."""

    def remove(ref: str) -> None:
        print(context.runtime.remove_image(ref), flush=True)

    return each(context, args.image, remove)


COMMAND = Command(
    "image rm",
    "remove images",
    run,
    operands=(Operand("IMAGE", "+", "image"),),
    about="An image that a pod refers to is not removed. Of an image with several names, the name that was given goes, "
    "and the image stays.",
    examples=("podium image rm demo/busybox:1",),
    root=True,
)
