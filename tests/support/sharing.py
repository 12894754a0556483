"""Several pytest processes that share one run: each takes the next module that nobody has taken.

PODIUM_TEST_SHARE names an empty folder that they have in common; a module is taken by making a folder in it.
`./bootstrap test` starts one more than there are processors. It is not pytest-xdist, whose workers our keeper can't
fork.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import groupby

import pytest

SHARE = os.environ.get("PODIUM_TEST_SHARE")


def run(session: pytest.Session, share: str) -> bool:
    """Run this process's part of the collected tests, as pytest's own loop would."""
    if session.testsfailed and not session.config.option.continue_on_collection_errors:
        raise session.Interrupted(f"{session.testsfailed} errors during collection")
    if session.config.option.collectonly:
        return True
    items = _taken(session.items, share)
    item = next(items, None)
    while item is not None:
        following = next(items, None)  # its module is taken now: pytest keeps what both need
        item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
        if session.shouldfail:
            raise session.Failed(session.shouldfail)
        if session.shouldstop:
            raise session.Interrupted(session.shouldstop)
        item = following
    return True


def _taken(items: list[pytest.Item], share: str) -> Iterator[pytest.Item]:
    for path, tests in groupby(items, lambda item: str(item.path)):
        try:
            os.mkdir(os.path.join(share, os.path.basename(path)))
        except FileExistsError:
            continue
        yield from tests
