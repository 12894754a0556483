"""`podium stage1 check`."""

from __future__ import annotations

from podium.cli import output
from podium.cli.command import FORMAT, Args, Command, Context, Operand
from podium.errors import HostLacks


def run(context: Context, args: Args) -> int:
    """Print what each plugin finds on this host."""
    checks = context.runtime.stage1_check(args.name or None)
    if args.format:
        output.print_json({"schema": "podium.stage1-check/1", "plugins": checks})
    else:
        for check in checks:
            print(f"{output.clean(check['name'])}: {'usable' if check['usable'] else 'not usable'}")
            for finding in check["findings"]:
                print(f"  {output.clean(_said(finding))}")
    return 0 if all(check["usable"] for check in checks) else HostLacks.exit_code


def _said(finding: object) -> str:
    if not isinstance(finding, dict):
        return str(finding)
    mark = "ok" if finding.get("ok") else "needed" if finding.get("required", True) else "missing"
    hint = f" ({finding['hint']})" if finding.get("hint") else ""
    return f"{mark}: {finding.get('what') or finding.get('message') or ''}{hint}"


COMMAND = Command(
    "stage1 check",
    "tell what this host lacks for them",
    run,
    options=(FORMAT,),
    operands=(Operand("NAME", "?", "stage1"),),
    about="Exits with 7 if one of them can't be used here.",
    examples=("podium stage1 check fly",),
)
