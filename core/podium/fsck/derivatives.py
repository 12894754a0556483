"""What can be made anew: the index and images of trees; and what was never finished."""

from __future__ import annotations

import os
from functools import partial

from podium import records
from podium.errors import Corrupt, LimitExceeded
from podium.fsck.lost import Lost, is_free, is_temporary, names
from podium.fsck.report import Report
from podium.paths import DELETING, DataDir
from podium.pods import lifecycle
from podium.sandbox import derived, kernels
from podium.store import index


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
        if is_temporary(name) or (ending == ".part" and is_free(derived.lock(data, tree))):
            report.leftover("temporary", path, f"{path} was never finished", partial(lost.move, path))
        elif ending in (".img", ".json") and not os.path.isdir(data.tree(tree)):
            report.leftover("erofs-orphan", path, f"{path} is of a tree that is gone", partial(lost.move, path))
        elif ending == ".img" and (fault := derived.fault(data, tree)) is not None:
            report.count("erofs")
            advice = "nothing is lost: it is made again at its next use"
            report.add("erofs-damaged", name, fault, advice, fix=partial(lost.move, path))
        elif ending == ".img":
            report.count("erofs")


def check_kernels(data: DataDir, report: Report, lost: Lost) -> None:
    """Guests' kernels by their digests, and those that pods name."""
    found = names(data.kernels)
    for name in found:
        path = os.path.join(data.kernels, name)
        if is_temporary(name) or (name.startswith(".") and is_free(kernels.lock(data))):
            report.leftover("temporary", path, f"{path} was never finished", partial(lost.move, path))
        elif name.startswith("sha256-"):
            report.count("kernels")
            fault = kernels.fault(data, "sha256:" + name.removeprefix("sha256-"))
            if fault is not None:
                advice = "nothing is lost if the kernel is installed still: it is taken from there at its next use"
                report.add("kernel-damaged", name, fault, advice, fix=partial(lost.move, path))
    for pod in lifecycle.scan(data):
        try:
            wanted = records.read_bytes(os.path.join(pod.path, kernels.POD_RECORD), 200).decode("ascii", "replace")
        except (OSError, LimitExceeded):
            continue
        name = wanted.strip().replace(":", "-")
        if name not in found:
            message = f"the kernel {name} of pod {pod.uuid} is missing"
            advice = "install that kernel again and prepare a pod, or make the pod anew; gc collects it without"
            report.add("kernel-missing", pod.uuid, message, advice)


def check_events(data: DataDir, report: Report, lost: Lost) -> None:
    """The log of events, line by line; what is damaged in it is passed over by its readers, and kept."""
    for name in names(data.events):
        path = os.path.join(data.events, name)
        if is_temporary(name):
            report.leftover("temporary", path, f"{path} was never finished", partial(lost.move, path))
        elif name == "log" or name.startswith("log."):
            with open(path, "rb") as f:
                bad = sum(not _is_whole(line) for line in f)
            if bad:
                message = f"{bad} lines of {path} are damaged, and passed over"
                report.add("events-damaged", path, message, "nothing: what they told is lost", damage=False)
    pending = os.path.join(data.events, "pending")
    for name in names(pending):
        if is_free(path := os.path.join(pending, name)):
            message = f"{path} tells of an image's import or removal that ended early"
            report.add(
                "event-pending",
                path,
                message,
                "'podium events' settles it, and so does the next image that comes or goes",
                damage=False,
            )


def _is_whole(line: bytes) -> bool:
    try:
        records.unseal(line, "event")
    except Corrupt:
        return not line.endswith(b"\n")  # it is being written, or the next writer cuts it off
    return True


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
            report.leftover(
                "temporary", path, f"{path} was never finished, and its maker is gone", partial(lost.move, path)
            )
    for folder in (data.backup, data.root, data.cache):
        for name in names(folder):
            if is_temporary(name):
                path = os.path.join(folder, name)
                report.leftover("temporary", path, f"{path} was never finished", partial(lost.move, path))
