"""`podium prepare`."""

from __future__ import annotations

from podium.cli import podoptions
from podium.cli.command import Args, Command, Context


def run(context: Context, args: Args) -> int:
    """Make a pod and print its uuid."""
    request = podoptions.pod_request(args)
    with podoptions.progress_shown(context, request):
        if args.dry_run:
            return podoptions.dry_run(context, request)
        uuid = context.runtime.prepare(request)
    print(uuid, flush=True)
    if args.uuid_file_save:
        with open(args.uuid_file_save, "w", encoding="ascii") as f:
            f.write(f"{uuid}\n")
    return 0


COMMAND = Command(
    "prepare",
    "make a pod, to be run later",
    run,
    options=podoptions.POD_OPTIONS,
    usage=podoptions.USAGE,
    about=podoptions.GRAMMAR + " The pod's uuid is printed; 'podium run-prepared' runs it.",
    examples=("podium prepare --name web web --memory 256M",),
    sections=podoptions.SECTIONS,
    parse=podoptions.arguments,
    root=True,
)
