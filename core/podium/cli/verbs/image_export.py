"""`podium image export`."""

from __future__ import annotations

from podium.cli import output
from podium.cli.command import Args, Command, Context, Operand, Option


def run(context: Context, args: Args) -> int:
    """Write an image as a file."""
    from podium.cli.progress import shown

    with shown(f"exporting {args.image}") as progress:
        context.progress = progress
        notes = context.runtime.export_image(args.image, args.file, args.format or "oci")
    for note in notes:
        output.tell(note)
    return 0


COMMAND = Command(
    "image export",
    "write an image as an OCI archive or an ACI",
    run,
    options=(Option("--format", "what FILE becomes; oci if not given", "FORMAT", choices=("oci", "aci")),),
    operands=(Operand("IMAGE", "1", "image"), Operand("FILE", "1", "file")),
    about="What was imported goes out as it came where FORMAT allows it: manifest, configuration and layers of an OCI "
    "image, the bytes of an ACI. An OCI archive of anything else has one layer; an ACI of anything else has all layers "
    "in one.",
    examples=(
        "podium image export demo/busybox:1 busybox.oci.tar",
        "podium image export --format aci demo/busybox:1 busybox.aci",
    ),
    root=True,
)
