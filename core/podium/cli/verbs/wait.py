"""`podium wait`."""

from __future__ import annotations

from podium.cli import output
from podium.cli.command import FORMAT, PODS, UUID_FILE, Args, Command, Context, Option
from podium.cli.targets import each
from podium.cli.values import seconds

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def run(context: Context, args: Args) -> int:
    """Wait for pods, and print the uuid and exit code of each."""
    ended: list[dict[str, Any]] = []

    def wait(ref: str) -> None:
        pod = context.runtime.wait(ref, args.timeout).to_json(full=True)
        ended.append(pod)
        if not args.format:
            code = pod["exit_code"]
            print(pod["uuid"], "-" if code is None else code, flush=True)

    code = each(context, args.pod, wait)
    if args.format:
        output.print_json({"schema": "podium.wait/1", "pods": ended})
    return code


COMMAND = Command(
    "wait",
    "wait until pods have ended",
    run,
    options=(Option("--timeout", "fail after TIME", "TIME", convert=seconds), FORMAT, UUID_FILE),
    operands=(PODS,),
    about="Prints each pod's uuid and exit code ('-' where none is known).",
    examples=("podium wait --timeout 5m web",),
)
