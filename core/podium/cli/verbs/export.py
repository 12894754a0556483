"""`podium export`."""

from __future__ import annotations

from podium.cli.command import POD, UUID_FILE, Args, Command, Context, Operand, Option


def run(context: Context, args: Args) -> int:
    """Write an app as an image."""
    context.runtime.export(args.pod, args.file, args.app)
    return 0


COMMAND = Command(
    "export",
    "write an app, with what it changed, as an image",
    run,
    options=(Option("--app", "the app; needed if there are several", "NAME"), UUID_FILE),
    operands=(POD, Operand("FILE", "1", "file")),
    examples=("podium export --app web web web.aci",),
    root=True,
)
