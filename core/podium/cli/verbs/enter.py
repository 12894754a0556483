"""`podium enter`."""

from __future__ import annotations

from podium.cli.command import POD, UUID_FILE, Args, Command, Context, Operand, Option


def run(context: Context, args: Args) -> int:
    """Run a command beside an app; the exit code is the command's."""
    return context.runtime.enter(args.pod, args.app, args.cmd, args.tty)


COMMAND = Command(
    "enter",
    "run a command beside an app, in its environment",
    run,
    options=(
        Option("--app", "beside this app; needed if there are several", "NAME"),
        Option("--tty", "with a terminal", short="-t"),
        UUID_FILE,
    ),
    operands=(POD, Operand("CMD", "*")),
    usage="[--app NAME] [--tty] POD [--] [CMD ...]",
    about="Also 'podium exec'. The command has the app's namespaces, cgroup, user and restrictions, and no more rights "
    "than it. The exit code is the command's; 125 is podium's own failure, 126 and 127 that the command can't be "
    "executed or found.",
    examples=("podium enter --tty web", "podium exec web -- /bin/ls -l /srv"),
    root=True,
    own_failure=125,
    passthrough=True,
)
