"""`podium cat-manifest`."""

from __future__ import annotations

import sys

from podium.cli.command import POD, UUID_FILE, Args, Command, Context


def run(context: Context, args: Args) -> int:
    """Print a pod's manifest as it is stored."""
    manifest = context.runtime.cat_manifest(args.pod)
    sys.stdout.buffer.write(manifest if manifest.endswith(b"\n") else manifest + b"\n")
    return 0


COMMAND = Command(
    "cat-manifest",
    "print a pod's manifest",
    run,
    options=(UUID_FILE,),
    operands=(POD,),
    about="An appc pod manifest, byte for byte as it is stored.",
    examples=("podium cat-manifest web",),
)
