"""`podium kill`."""

from __future__ import annotations

from podium.cli.command import PODS, UUID_FILE, Args, Command, Context, Option
from podium.cli.targets import each_pod
from podium.cli.values import signal_number


def run(context: Context, args: Args) -> int:
    """Send a signal to pods, and print their uuids."""
    return each_pod(context, args.pod, lambda uuid: context.runtime.kill(uuid, args.signal))


COMMAND = Command(
    "kill",
    "send a signal to pods",
    run,
    options=(
        Option("--signal", "a name or number (KILL)", "SIGNAL", short="-s", convert=signal_number, default=9),
        UUID_FILE,
    ),
    operands=(PODS,),
    about="Every app of the pod gets it.",
    examples=("podium kill --signal HUP web",),
    root=True,
)
