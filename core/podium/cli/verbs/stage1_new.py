"""`podium stage1 new`."""

from __future__ import annotations

from podium.cli.command import Args, Command, Context, Operand


def run(context: Context, args: Args) -> int:
    """Write the distribution and name its files."""
    from podium.testing import scaffold

    for path in scaffold.write(args.name, args.dir_):
        print(path)
    return 0


_DIR = Operand("DIR", "1", "file")
_DIR.dest = "dir_"  # `dir` is the data directory's option

COMMAND = Command(
    "stage1 new",
    "write a new plugin, to begin with",
    run,
    operands=(Operand("NAME"), _DIR),
    about="Writes a distribution that can be installed and published: a small stage1 that works, its conformance test, "
    "a README and a CI file. DIR must be empty, or not be there.",
    examples=("podium stage1 new sample ./podium-sample",),
)
