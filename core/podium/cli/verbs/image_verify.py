"""`podium image verify`."""

from __future__ import annotations

from podium.cli import output
from podium.cli.command import FORMAT, Args, Command, Context, Operand
from podium.errors import PartlyFailed


def run(context: Context, args: Args) -> int:
    """Hold images against their digests; trees that were altered are rendered again."""
    found = context.runtime.verify_images(args.image)
    if args.format:
        output.print_json({"schema": "podium.image-verify/1", "images": [v.to_json() for v in found]})
    else:
        for image in found:
            state = "damaged" if image.problems else "repaired" if image.repaired else "whole"
            print(f"{image.id} {image.name} {state}")
            for problem in (*image.problems, *(f"{fault} (repaired)" for fault in image.repaired)):
                output.tell(f"{image.name or image.id}: {problem}")
    return PartlyFailed.exit_code if any(v.problems for v in found) else 0


COMMAND = Command(
    "image verify",
    "hold images against their digests",
    run,
    options=(FORMAT,),
    operands=(Operand("IMAGE", "*", "image"),),
    about="Without IMAGE, all. Everything is read. A tree that was altered is rendered again; a damaged blob has to be "
    "imported again. Exits with 6 if something is damaged still.",
    examples=("podium image verify",),
    root=True,
)
