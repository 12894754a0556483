"""`podium completion`."""

from __future__ import annotations

from podium.cli.command import Args, Command, Context, Operand
from podium.errors import BadUsage


def run(context: Context, args: Args) -> int:
    """Print a completion script."""
    from podium.cli import completion

    scripts = {"bash": completion.bash, "zsh": completion.zsh, "fish": completion.fish}
    if args.shell not in scripts:
        raise BadUsage(f"there is no completion for {args.shell!r}", hint=f"there is for {', '.join(scripts)}")
    print(scripts[args.shell](), end="")
    return 0


COMMAND = Command(
    "completion",
    "print a completion script for a shell",
    run,
    operands=(Operand("SHELL"),),
    about="SHELL is bash, zsh or fish.",
    examples=(
        "podium completion bash > /etc/bash_completion.d/podium",
        "podium completion fish > ~/.config/fish/completions/podium.fish",
    ),
)
