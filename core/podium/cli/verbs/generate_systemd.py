"""`podium generate systemd`."""

from __future__ import annotations

from podium.cli.command import Args, Command, Context, Operand, Option

_WHEN = ("no", "on-failure", "always")


def run(context: Context, args: Args) -> int:
    """Print a unit."""
    from podium.actions.systemd import UnitOptions

    options = UnitOptions(args.stage1, args.net, args.name, args.notify, args.restart, tuple(args.rest))
    print(context.runtime.generate_systemd(args.ref, options), end="")
    return 0


COMMAND = Command(
    "generate systemd",
    "write a systemd unit for a pod",
    run,
    options=(
        Option("--stage1", "the stage1 plugin", "NAME", complete="stage1"),
        Option("--net", "networks, as of run", "NAME[,NAME]"),
        Option("--name", "the pod's name", "NAME"),
        Option("--notify", "the apps say themselves when they are ready"),
        Option("--restart", "Restart= of the unit", "WHEN", default="on-failure", choices=_WHEN),
    ),
    operands=(Operand("REF", "+", "image"),),
    rest=True,
    usage="[OPTION...] POD | IMAGE... [-- ARG...]",
    about="REF is a prepared pod, which runs once, or images: each start makes a pod of one app each. "
    "What follows -- are arguments for the app of one image. See docs/systemd.md.",
    examples=(
        "podium generate systemd --net host --name web example.com/web > /etc/systemd/system/web.service",
        "podium generate systemd --net host box -- -c 'exec httpd -f'",
    ),
)
