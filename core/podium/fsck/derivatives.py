"""What can be made anew: the index and images of trees; and what was never finished."""

from __future__ import annotations

import os
from functools import partial

from podium.fsck.lost import Lost, is_free, is_temporary, names
from podium.fsck.report import Report
from podium.paths import DELETING, DataDir
from podium.sandbox import derived
from podium.store import index

_TAKEN = "'podium fsck --repair' takes it away"


def check_index(data: DataDir, report: Report, lost: Lost) -> None:
    """The index against the records that it is a copy of."""
    fault = index.fault(data)
    if fault is None:
        return

    def renew() -> str:
        moved = f", the old one {lost.move(data.index)}" if os.path.lexists(data.index) else ""
        for ending in ("-journal", "-wal", "-shm"):
            if os.path.lexists(data.index + ending):
                lost.move(data.index + ending)
        index.survey(data)
        return f"made anew{moved}"

    advice = "nothing is lost: it is made anew by 'podium fsck --repair', or when it is next used"
    report.add("index", data.index, fault, advice, damage=os.path.lexists(data.index), fix=renew)


def check_derived(data: DataDir, report: Report, lost: Lost) -> None:
    """Images of trees, by their digests."""
    for name in names(data.erofs):
        path = os.path.join(data.erofs, name)
        tree, ending = os.path.splitext(name)
        if is_temporary(name) or (ending == ".part" and is_free(data.at("locks", f"erofs-{tree[:2]}"))):
            _leftover(report, lost, "temporary", path, f"{path} was never finished")
        elif ending in (".img", ".json") and not os.path.isdir(data.tree(tree)):
            _leftover(report, lost, "erofs-orphan", path, f"{path} is of a tree that is gone")
        elif ending == ".img" and (fault := derived.fault(data, tree)) is not None:
            report.count("erofs")
            advice = "nothing is lost: it is made again at its next use"
            report.add("erofs-damaged", name, fault, advice, fix=partial(lost.move, path))
        elif ending == ".img":
            report.count("erofs")


def check_temporaries(data: DataDir, report: Report, lost: Lost) -> None:
    """Half-made things whose makers are gone."""
    for name in names(data.tmp):
        path = os.path.join(data.tmp, name)
        if not is_free(path):
            continue  # somebody is at work in it
        if name.startswith(DELETING):
            message = f"{path} is a pod that was not deleted to its end"
            report.add("temporary", path, message, "'podium gc' deletes the rest", damage=False)
        else:
            _leftover(report, lost, "temporary", path, f"{path} was never finished, and its maker is gone")
    for folder in (data.backup, data.root, data.cache):
        for name in names(folder):
            if is_temporary(name):
                path = os.path.join(folder, name)
                _leftover(report, lost, "temporary", path, f"{path} was never finished")


def _leftover(report: Report, lost: Lost, kind: str, path: str, message: str) -> None:
    report.add(kind, path, message, _TAKEN, damage=False, fix=lambda: lost.move(path))
