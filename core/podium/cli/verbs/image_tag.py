"""`podium image tag`."""

from __future__ import annotations

from podium.cli.command import Args, Command, Context, Operand


def run(context: Context, args: Args) -> int:
    """Give an image another name, and print its id."""
    print(context.runtime.tag_image(args.image, args.name).id)
    return 0


COMMAND = Command(
    "image tag",
    "give an image another name",
    run,
    operands=(Operand("IMAGE", "1", "image"), Operand("NAME")),
    about="NAME is NAME[:TAG]; it is taken from the image that has it.",
    examples=("podium image tag demo/busybox:1 demo/busybox:stable",),
    root=True,
)
