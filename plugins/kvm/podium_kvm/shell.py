"""What is written for the guest's shell."""

from __future__ import annotations


def quoted(text: str) -> str:
    """One word; as shlex.quote, whose module brings regular expressions along."""
    return "'" + text.replace("'", "'\\''") + "'"
