"""`podium version`."""

from __future__ import annotations

import sys

from podium import __version__, format
from podium.appc.names import SPEC_VERSION
from podium.cli import output
from podium.cli.command import FORMAT, Args, Command, Context


def run(context: Context, args: Args) -> int:
    """Print versions."""
    python = ".".join(map(str, sys.version_info[:3]))
    if args.format:
        known = {"version": __version__, "python": python, "data_format": format.VERSION, "appc": SPEC_VERSION}
        output.print_json({"schema": "podium.version/1", **known})
    else:
        print(f"podium {__version__} (Python {python}, data format {format.VERSION}, appc {SPEC_VERSION})")
    return 0


COMMAND = Command("version", "show podium's version", run, options=(FORMAT,), examples=("podium version",))
