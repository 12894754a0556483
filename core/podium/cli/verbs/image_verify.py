"""`podium image verify`."""

from __future__ import annotations

from podium.cli.command import Args, Command, Context, Operand
from podium.cli.targets import each


def run(context: Context, args: Args) -> int:
    """Verify images, all if none is named, and print the ids of those that are whole."""

    def verify(ref: str) -> None:
        context.runtime.verify_images([ref])
        print(context.runtime.image(ref).id, flush=True)

    return each(context, args.image or [image.id for image in context.runtime.images()], verify)


COMMAND = Command(
    "image verify",
    "hold images against their digests",
    run,
    operands=(Operand("IMAGE", "*", "image"),),
    examples=("podium image verify",),
    root=True,
)
