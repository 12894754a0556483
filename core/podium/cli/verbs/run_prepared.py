"""`podium run-prepared`."""

from __future__ import annotations

from podium.cli import podoptions
from podium.cli.command import POD, UUID_FILE, Args, Command, Context


def run(context: Context, args: Args) -> int:
    """Run a prepared pod; the exit code is the app's."""
    from podium.pods.request import RunOptions

    how = RunOptions(args.detach, args.interactive, args.tty, args.rm)
    result = context.runtime.run_prepared(args.pod, how)
    return podoptions.outcome(result)


COMMAND = Command(
    "run-prepared",
    "run a pod that was prepared",
    run,
    options=(*podoptions.RUN_OPTIONS, UUID_FILE),
    operands=(POD,),
    about="The pod runs under the very stage1 plugin that it was prepared with. Exit codes are those of 'podium run'.",
    examples=("podium run-prepared --detach web",),
    root=True,
    own_failure=125,
)
