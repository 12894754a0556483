"""`podium migrate`."""

from __future__ import annotations

from podium.cli import output
from podium.cli.command import FORMAT, Args, Command, Context, Option
from podium.errors import WrongState


def run(context: Context, args: Args) -> int:
    """Bring the data directory to this podium's format, or tell what that would do."""
    plan = context.runtime.migration() if args.check else context.runtime.migrate()
    if args.format:
        output.print_json({"schema": "podium.migrate/1", "done": not args.check, **plan.to_json()})
    else:
        for step in plan.steps:
            print(f"format {step.format}: {step.what}")
        for version in plan.schemas:
            print(f"index of schema {version}")
    return WrongState.exit_code if args.check and (plan.steps or plan.schemas) else 0


COMMAND = Command(
    "migrate",
    "bring the data directory to this podium's format",
    run,
    options=(Option("--check", "only tell what there is to do; exits with 4 if there is something"), FORMAT),
    about="Commands that write do this by themselves, and say so; those that only read never do. What is changed is "
    "kept in backup/, and migrations.log tells when it was done.",
    examples=("podium migrate --check", "podium migrate"),
    root=True,
)
