"""`podium gc`."""

from __future__ import annotations

from podium.cli import output
from podium.cli.command import FORMAT, Args, Command, Context, Option
from podium.cli.values import seconds
from podium.errors import PartlyFailed


def run(context: Context, args: Args) -> int:
    """Collect, and tell what was collected."""
    report = context.runtime.gc(
        args.grace_period, args.expire_prepared, mark_only=args.mark_only, dry_run=args.dry_run
    ).to_json()
    if args.format:
        output.print_json({"schema": "podium.gc/1", **report})
    else:
        for uuid in report["marked"] if args.mark_only else report["collected"]:
            print(uuid)
        for kept in report["kept"]:
            output.tell(f"pod {kept['uuid']} is kept: {kept['reason']}")
        for way in report["dispatch"]:
            if way["via"] != "installed":
                output.tell(f"pod {way['uuid']}: {way['stage1']} {way['version']} served by {way['via']}")
    for failed in report["failed"]:
        error = PartlyFailed(
            f"pod {failed['uuid']} could not be collected (attempt {failed['attempts']}): {failed['message']}",
            hint="the next gc tries again; 'podium inspect' tells more",
            subject=failed["uuid"],
        )
        error.reason = failed["reason"]
        output.report(error, context.json)
    return PartlyFailed.exit_code if report["failed"] else 0


COMMAND = Command(
    "gc",
    "collect what ended, failed or was abandoned",
    run,
    options=(
        Option("--grace-period", "keep pods that ended less than TIME ago (30m)", "TIME", convert=seconds),
        Option("--expire-prepared", "remove prepared pods that were not run for TIME (24h)", "TIME", convert=seconds),
        Option("--mark-only", "mark, but collect nothing"),
        Option("--dry-run", "tell what would be collected, and do nothing"),
        FORMAT,
    ),
    about="Prints the uuids of what it collected. Exits with 6 if something could not be: that stays as gc-failed.",
    examples=("podium gc --grace-period 0s", "podium gc --dry-run --format json"),
    root=True,
)
