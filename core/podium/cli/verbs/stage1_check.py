"""`podium stage1 check`."""

from __future__ import annotations

from podium.cli import output
from podium.cli.command import FORMAT, Args, Command, Context, Operand
from podium.errors import HostLacks

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


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


def _said(finding: dict[str, Any]) -> str:
    mark = "ok" if finding["ok"] else "lacks" if finding["required"] else "without"
    hint = f" ({finding['hint']})" if finding.get("hint") and not finding["ok"] else ""
    message = f": {finding['message']}" if finding.get("message") else ""
    return f"{mark:7} {finding['name']}{message}{hint}"


COMMAND = Command(
    "stage1 check",
    "tell what this host lacks for them",
    run,
    options=(FORMAT,),
    operands=(Operand("NAME", "?", "stage1"),),
    about="Exits with 7 if one of them can't be used here.",
    examples=("podium stage1 check fly",),
)
