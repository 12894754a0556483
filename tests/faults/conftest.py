"""Sweeps go on where the last one was cut short."""

from __future__ import annotations

import pytest

from support import sweep


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """A sweep leaves out what it has done, and what there is no time for."""
    if sweep.whole(item.nodeid):
        pytest.skip("the table has all of it")
    sweep.begun(item.nodeid, whole=False)
    if sweep.over():
        pytest.skip("the time is up")


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> None:
    """What was done to its end needn't be begun again."""
    if call.when == "call" and call.excinfo is None and not sweep.over():
        sweep.begun(item.nodeid, whole=True)
