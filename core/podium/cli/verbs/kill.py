"""`podium kill`."""

from __future__ import annotations

from podium.cli.command import PODS, UUID_FILE, Args, Command, Context, Option
from podium.cli.targets import each_pod
from podium.cli.values import signal_number


def run(context: Context, args: Args) -> int:
    """Send a signal to pods, and print their uuids."""
    return each_pod(context, args.pod, lambda uuid: context.runtime.kill(uuid, args.signal, args.app))


COMMAND = Command(
    "kill",
    "send a signal to the apps of pods",
    run,
    options=(
        Option("--signal", "a name or number (KILL)", "SIGNAL", short="-s", convert=signal_number, default=9),
        Option("--app", "to this app only", "NAME"),
        UUID_FILE,
    ),
    operands=(PODS,),
    about="Every app of the pod gets it, or with --app that one alone. An app that ends by it has failed, which ends "
    "its pod unless it is started again (--restart).",
    examples=("podium kill --signal HUP web", "podium kill --app db --signal TERM web"),
    root=True,
)
