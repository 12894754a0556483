"""`podium run`."""

from __future__ import annotations

from podium.cli import podoptions
from podium.cli.command import Args, Command, Context


def run(context: Context, args: Args) -> int:
    """Run a new pod; the exit code is the app's."""
    from podium.pods.request import RunOptions

    request = podoptions.pod_request(args)
    how = RunOptions(args.detach, args.interactive, args.tty, args.rm, args.uuid_file_save)
    with podoptions.progress_shown(context, request):
        if args.dry_run:
            return podoptions.dry_run(context, request)
        result = context.runtime.run(request, how)
    return podoptions.outcome(result)


COMMAND = Command(
    "run",
    "run a new pod",
    run,
    options=(*podoptions.POD_OPTIONS, *podoptions.RUN_OPTIONS),
    usage=podoptions.USAGE,
    about=podoptions.GRAMMAR + " The exit code is the app's, 128+N when signal N ended it, 125 when podium failed, "
    "126 and 127 when the command can't be executed or found. Of several apps, the first that failed counts.",
    examples=(
        "podium run --rm --net host demo/busybox:1 -- /bin/echo hello",
        "podium run -d --name web --port http:8080 web --memory 256M --user www --- cache --exec /bin/cached -- -v",
    ),
    sections=podoptions.SECTIONS,
    parse=podoptions.arguments,
    root=True,
    own_failure=125,
)
