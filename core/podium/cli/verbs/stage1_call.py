"""`podium stage1 call`."""

from __future__ import annotations

from podium import errors
from podium.cli import output, values
from podium.cli.command import FORMAT, Args, Command, Context, Operand, Option


def run(context: Context, args: Args) -> int:
    """Call the hook and print what it returns."""
    calls = context.runtime.stage1_call(args.name, args.hook, args.pod or None, args.times)
    failed = [call for call in calls if call["error"]]
    if args.format:
        output.print_json({"schema": "podium.stage1-call/1", "calls": calls})
    else:
        import json

        for call in calls:
            if call["error"]:
                output.tell(f"{args.hook} failed after {call['seconds'] * 1000:.1f} ms")
                output.report(errors.from_json(call["error"]), as_json=False)
            else:
                print(json.dumps(call["result"]))
    return 1 if failed else 0


COMMAND = Command(
    "stage1 call",
    "call one hook of a plugin by hand",
    run,
    options=(
        Option("--times", "call it so often in one worker", "N", convert=values.whole(1, 1000), default=1),
        FORMAT,
    ),
    operands=(Operand("NAME", "1", "stage1"), Operand("HOOK"), Operand("POD", "?", "pod")),
    about="For authors of plugins. The pod must be one that this plugin prepared; its state and lock are respected. "
    "info and check take no pod; run and enter do what run-prepared and enter do.",
    examples=("podium stage1 call fly info", "podium stage1 call fly gc POD --times 10"),
)
