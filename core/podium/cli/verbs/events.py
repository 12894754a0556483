"""`podium events`."""

from __future__ import annotations

import sys

from podium.cli import output
from podium.cli.command import FORMAT, Args, Command, Context, Option
from podium.cli.values import key_value, moment, unique
from podium.errors import BadUsage

_KEYS = ("kind", "subject", "name", "stage1", "image", "app")


def run(context: Context, args: Args) -> int:
    """Print events, one a line."""
    from podium.quickjson import dumps

    filters = unique(args.filter, "--filter")
    for key in filters:
        if key not in _KEYS:
            raise BadUsage(f"--filter: {key!r} is not one of {', '.join(_KEYS)}")
    for event in context.runtime.events(args.follow, args.since, filters):
        if args.format:
            print(dumps(event.to_json(), (",", ":")))
        else:
            known = ("name", "app", "exit_code", "reason")
            more = [f"{k}={event.details[k]}" for k in known if event.details.get(k) is not None]
            print(output.clean(" ".join((event.time, event.kind, event.subject, *more))))
        if args.follow:
            sys.stdout.flush()
    return 0


COMMAND = Command(
    "events",
    "show what happened to pods and images",
    run,
    options=(
        FORMAT,
        Option("--follow", "go on with what happens", short="-f"),
        Option("--since", "from this time on: RFC 3339, or how long ago (10m)", "TIME", convert=moment),
        Option("--filter", f"only where K is V; K: {', '.join(_KEYS)}", "K=V", convert=key_value, many=True),
    ),
    about="JSON is one object a line. After a crash an event may be there twice, with the same id.",
    examples=("podium events --follow --filter kind=pod-exited --format json",),
)
