"""What podium prints: data on standard output, talk on standard error."""

from __future__ import annotations

import sys

from podium.errors import Failed, PodiumError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any


def clean(text: str) -> str:
    """Text from a record, an image or a file name, so that it can't move the cursor or colour the terminal."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else _escaped(c) for c in text)


def _escaped(char: str) -> str:
    code = ord(char)
    if 0xDC80 <= code <= 0xDCFF:  # a byte of a file name that is no UTF-8
        return f"\\x{code - 0xDC00:02x}"
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def _clean_lines(text: str) -> str:
    return "\n  ".join(clean(line.replace("\t", "  ")) for line in text.splitlines())


def table(header: Sequence[str], rows: Sequence[Sequence[str]], legend: bool = True) -> None:
    """Print columns, aligned; an empty cell is `-`, so that each line has as many fields as the header."""
    cells = [[clean(cell) or "-" for cell in row] for row in rows]
    if legend:
        cells.insert(0, list(header))
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells)
    sys.stdout.write("".join(f"{line}\n" for line in lines))


def pairs(values: Sequence[tuple[str, str]]) -> None:
    """Print `name: value` lines, aligned, without the empty ones."""
    width = max((len(name) for name, value in values if value), default=0) + 1
    for name, value in values:
        if value:
            print(f"{name + ':':{width}} {clean(value)}")


def print_json(value: dict[str, Any]) -> None:
    """Print one JSON object: on one line for programs, indented for people."""
    if sys.stdout.isatty():
        import json

        print(json.dumps(value, indent=1))
    else:
        from podium.quickjson import dumps

        print(dumps(value, (",", ":")))


def tell(message: str) -> None:
    """Say something on standard error."""
    _say(f"podium: {_clean_lines(message)}")


def _say(line: str) -> None:
    """A line on standard error; one that can't be written (to a file on a full disk, say) changes no exit code."""
    try:
        print(line, file=sys.stderr, flush=True)
    except OSError:
        pass


def report(error: PodiumError, as_json: bool) -> None:
    """Tell an error on standard error."""
    if as_json:
        import json

        _say(json.dumps(error.to_json()))
        return
    tell(error.message)
    if error.hint:
        _say(f"  hint: {_clean_lines(error.hint)}")


def as_podium_error(error: OSError) -> PodiumError:
    """A system call's failure, or a time limit's, as an error to report: the paths, and what the system says."""
    import errno
    import os

    if isinstance(error, TimeoutError) and error.errno is None:
        timeout = Failed(str(error) or "timed out")
        timeout.reason = "timeout"
        return timeout
    paths = [os.fsdecode(p) for p in (error.filename, error.filename2) if isinstance(p, (str, bytes))]
    message = ": ".join([" and ".join(paths)] if paths else []) + (": " if paths else "")
    message += error.strerror or str(error) or type(error).__name__
    hint = None
    if error.errno in (errno.EACCES, errno.EPERM) and os.geteuid() != 0:
        hint = "podium needs root: try again with sudo"
    elif error.errno in (errno.ENOSPC, errno.EDQUOT):
        hint = "make room: 'podium gc' and 'podium image gc' remove what is not needed"
    failed = Failed(message, hint=hint, subject=paths[0] if paths else None)
    failed.reason = errno.errorcode.get(error.errno or 0, "failed").lower()
    return failed
