"""`podium export`."""

from __future__ import annotations

from podium.cli.command import POD, UUID_FILE, Args, Command, Context, Operand, Option


def run(context: Context, args: Args) -> int:
    """Write an app's rootfs."""
    context.runtime.export(args.pod, args.file, args.app)
    return 0


COMMAND = Command(
    "export",
    "write an app's rootfs, with what it changed, as a tar archive",
    run,
    options=(Option("--app", "the app; needed if there are several", "NAME"), UUID_FILE),
    operands=(POD, Operand("FILE", "1", "file")),
    examples=("podium export --app web web web.tar",),
    root=True,
)
