"""`podium image extract`."""

from __future__ import annotations

from podium.cli.command import Args, Command, Context, Operand, Option


def run(context: Context, args: Args) -> int:
    """Copy an image into a folder."""
    context.runtime.extract_image(args.image, args.folder, args.rootfs_only)
    return 0


COMMAND = Command(
    "image extract",
    "copy an image into a folder",
    run,
    options=(Option("--rootfs-only", "FOLDER becomes the rootfs itself, without the manifest"),),
    operands=(Operand("IMAGE", "1", "image"), Operand("FOLDER", "1", "file")),
    about="FOLDER gets 'manifest' and 'rootfs'. It must not exist, or be empty.",
    examples=("podium image extract --rootfs-only demo/busybox:1 ./rootfs",),
    root=True,
)
