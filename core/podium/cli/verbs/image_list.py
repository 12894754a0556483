"""`podium image list`."""

from __future__ import annotations

from podium.cli import output
from podium.cli.command import FORMAT, Args, Command, Context, Option
from podium.clock import rfc3339
from podium.units import human_size


def run(context: Context, args: Args) -> int:
    """Print all images."""
    found = context.runtime.images()
    images = [image.to_json(None if used is None else rfc3339(used)) for image, used in found]
    for problem in context.runtime.image_problems():
        output.report(problem, context.json)
    if args.format:
        output.print_json({"schema": "podium.image-list/1", "images": images})
        return 0
    rows = [
        (
            image["id"] if args.full else image["id"].partition(":")[2][:12],
            image["name"] or "",
            ",".join((*image["tags"], *image["aliases"])),
            image["format"] or "",
            "" if image["tree_size"] is None else human_size(image["tree_size"]),
            image["arch"] or "",
            (image["imported"] or "") if args.full else (image["imported"] or "")[:10],
        )
        for image in images
    ]
    output.table(("ID", "NAME", "TAGS", "FORMAT", "SIZE", "ARCH", "IMPORTED"), rows, legend=not args.no_legend)
    return 0


COMMAND = Command(
    "image list",
    "list the images",
    run,
    options=(FORMAT, Option("--full", "whole ids and times"), Option("--no-legend", "no heading")),
    examples=("podium image list",),
)
