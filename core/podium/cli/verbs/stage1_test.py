"""`podium stage1 test`."""

from __future__ import annotations

from podium.cli.command import Args, Command, Context, Operand, Option

_NOTHING = 5  # pytest's exit code when it has selected nothing


def run(context: Context, args: Args) -> int:
    """Run the suite with pytest, which prints what it finds."""
    from podium.errors import BadInput, HostLacks
    from podium.testing import scaffold

    if args.real:
        import os

        if os.geteuid() != 0:
            raise HostLacks("'podium stage1 test --real' needs root", hint="try again with sudo")
    context.runtime.stage1_find(args.name)
    xfails = scaffold.read_xfails(args.xfails) if args.xfails else {}
    code = scaffold.run_suite(args.name, real=args.real, xfails=xfails, words=["-k", args.only] if args.only else [])
    if code == _NOTHING:
        raise BadInput("no check was run", hint="the names in --only are those of the suite's checks: test_…")
    return 0 if code == 0 else 1


COMMAND = Command(
    "stage1 test",
    "hold a plugin against the conformance suite",
    run,
    operands=(Operand("NAME", "1", "stage1"),),
    options=(
        Option("--real", "start pods, too; needs root"),
        Option("--xfails", "checks that are known to fail: lines CHECK: REASON", "FILE", complete="file"),
        Option("--only", "only the checks that pytest's -k selects", "EXPRESSION"),
    ),
    about="Needs pytest (podium[testing]). What the plugin claims is tested by its effect, what it does not claim must "
    "be refused. A check that is known to fail and passes is a failure. Pods are made in a data directory of the "
    "suite's own. Exits with 1 if a check fails.",
    examples=("podium stage1 test sample", "sudo podium stage1 test sample --real"),
)
