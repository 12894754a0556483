"""The check as a whole: the format first, then, under the store's locks, everything that format.json promises."""

from __future__ import annotations

import json
import os
from contextlib import ExitStack

from podium import format
from podium.errors import Corrupt, NotFound
from podium.fsck.content import Content
from podium.fsck.derivatives import check_derived, check_events, check_index, check_kernels, check_temporaries
from podium.fsck.lost import Lost, names
from podium.fsck.pinned import check_pins
from podium.fsck.podfolders import Pods
from podium.fsck.report import Report
from podium.linux.files import write_atomic
from podium.paths import DataDir
from podium.store import locks, migrating
from podium.store.store import Store

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable


def check(store: Store, tell: Callable[[str], None], *, repair: bool) -> Report:
    """Check a data directory.

    Without `repair` nothing is changed, and nobody has to wait. With it the store's locks are held alone meanwhile:
    pods run on, and new ones wait.

    Args:
        store: of the data directory.
        tell: is given what else happens, such as a migration.
        repair: move what is in the way to lost+found, and make anew what can be.

    Raises:
        NotFound: there is no data directory.
        NewerFormat: it is that of a newer podium.
    """
    data, report, lost = store.data, Report(repair=repair), Lost(store.data)
    _check_format(data, report, lost)
    if repair and format.ensure(data) < format.VERSION:
        migrating.automatic(data, tell)
    with ExitStack() as held:
        if repair:
            held.enter_context(store.exclusive())
            held.enter_context(locks.locked(data, locks.RECORDS))
        elif os.path.exists(os.path.join(data.locks, locks.STORE)):
            held.enter_context(store.shared())
        pods = Pods(data, report, lost)
        content = Content(store, report, lost, pods)
        content.check()
        check_pins(data, report, lost, pods)
        pods.check(content.images)
        check_derived(data, report, lost)
        check_kernels(data, report, lost)
        check_events(data, report, lost)
        check_temporaries(data, report, lost)
        check_index(data, report, lost)
    report.finish()
    return report


def _check_format(data: DataDir, report: Report, lost: Lost) -> None:
    try:
        if not format.check(data):
            raise NotFound(f"there is no data directory {data.root}", subject=data.root)
    except Corrupt as e:
        number = _format_of(data)

        def restore() -> str:
            lost.copy(data.format)
            content = format.initial()
            if number == 1:
                content |= {"format": 1, "compat": [], "ro_compat": [], "incompat": []}
            write_atomic(data.format, (json.dumps(content, indent=1) + "\n").encode())
            return f"written anew, as of format {number}"

        advice = "if a newer podium was used here, use that one; else 'podium fsck --repair' writes it anew"
        report.add("format-damaged", data.format, e.message, advice, fix=restore)
        if not report.repair:
            return
        format.check(data)


def _format_of(data: DataDir) -> int:
    """The format that the other files tell of."""
    if any(name.endswith(".used") for name in names(data.images)) or os.path.isdir(data.backup):
        return format.VERSION
    return 1
