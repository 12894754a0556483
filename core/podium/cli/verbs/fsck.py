"""`podium fsck`."""

from __future__ import annotations

from podium.cli import output
from podium.cli.command import FORMAT, Args, Command, Context, Option
from podium.errors import PartlyFailed


def run(context: Context, args: Args) -> int:
    """Check the data directory, and repair it if that is asked."""
    report = context.runtime.fsck(args.repair)
    if args.format:
        output.print_json(report.to_json())
    else:
        for found in report.findings:
            print(f"{'damaged' if found.damage else 'note'}: {found.kind}: {output.clean(found.message)}")
            if found.repaired is not None:
                print(f"  repaired: {output.clean(found.repaired)}")
            if found.failed is not None:
                print(f"  not repaired: {output.clean(found.failed)}")
            if found.advice and not found.mended:
                print(f"  to do: {output.clean(found.advice)}")
        checked = ", ".join(f"{number} {kind}" for kind, number in report.checked.items())
        output.tell(f"checked {checked or 'an empty directory'}: {'damage is left' if report.damaged else 'whole'}")
    return PartlyFailed.exit_code if report.damaged else 0


COMMAND = Command(
    "fsck",
    "check everything that is stored",
    run,
    options=(Option("--repair", "move what is in the way to lost+found, and make anew what can be"), FORMAT),
    about="Every blob, manifest, tree, pin, envelope, ledger and the index are held against each other and against "
    "their digests, so all is read. Nothing is deleted. Exits with 6 if damage is left; what is only left over "
    "(notes) is none.",
    examples=("podium fsck", "podium fsck --repair"),
    root=True,
)
