"""`podium rm`."""

from __future__ import annotations

from podium.cli.command import PODS, UUID_FILE, Args, Command, Context, Option
from podium.cli.targets import each_pod


def run(context: Context, args: Args) -> int:
    """Remove pods, and print their uuids."""
    return each_pod(context, args.pod, lambda uuid: context.runtime.remove(uuid, args.force), gone_is_done=True)


COMMAND = Command(
    "rm",
    "remove pods now",
    run,
    options=(Option("--force", "kill them if they run"), UUID_FILE),
    operands=(PODS,),
    about="Everything that the pod held on the host is released first; where that fails the pod stays, as gc-failed.",
    examples=("podium rm web", "podium rm --force $(podium list --no-legend --full | cut -d ' ' -f 1)"),
    root=True,
)
