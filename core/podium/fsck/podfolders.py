"""Pods' folders: envelope, manifest, ledger and records, in whatever phase they are."""

from __future__ import annotations

import os
from functools import partial

from podium import records
from podium.appc.jsonread import MAX_BYTES
from podium.appc.pod_manifest import parse_pod
from podium.errors import Corrupt, LimitExceeded, NewerFormat
from podium.fsck.lost import Lost, is_temporary, names
from podium.fsck.report import Report
from podium.paths import EMBRYO, MANIFEST, PHASES, PREPARE, RUN, DataDir
from podium.pods import envelope as envelopes
from podium.pods import lock, status
from podium.pods.envelope import Envelope
from podium.pods.ledger import PodLedger
from podium.pods.lifecycle import GC_FAILED, PodRef, is_odd, is_uuid
from podium.pods.manifest_fault import manifest_fault
from podium.trace import trace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from podium.store.image import Image

_GC = "'podium gc' or 'podium rm' collects the pod"


class Pods:
    """All pods, read once.

    Attributes:
        trees: id → the pods that refer to it.
        pins: name → the plugin's name, and the pods that refer to it.
        unreadable: pods whose envelope can't be read, which may refer to anything.
    """

    def __init__(self, data: DataDir, report: Report, lost: Lost) -> None:
        self._data, self._report, self._lost = data, report, lost
        self._pods: list[tuple[PodRef, Envelope | None]] = []
        self.trees: dict[str, list[str]] = {}
        self.pins: dict[str, tuple[str, list[str]]] = {}
        self.unreadable: list[str] = []
        self._images: dict[str, list[str]] = {}
        for phase in PHASES:
            for name in names(data.phase(phase)):
                self._take(PodRef(phase, name, data.pod(phase, name)))

    def _take(self, pod: PodRef) -> None:
        if not is_uuid(pod.uuid):
            if is_temporary(pod.uuid):
                self._report.leftover(
                    "temporary", pod.path, f"{pod.path} was never finished", partial(self._lost.move, pod.path)
                )
            else:
                message = f"{pod.path} is no pod's, and nothing of podium's looks at it"
                self._report.add("pod-odd", pod.path, message, "move it elsewhere", damage=False)
            return
        if is_odd(pod.path):
            self._report.leftover(
                "pod-odd", pod.path, f"{pod.path} is no folder, so no pod", partial(self._lost.move, pod.path)
            )
            return
        found: Envelope | None = None
        self._report.count("pods")
        try:
            found = envelopes.read(pod.path)
            found.features.require(f"pod {pod.uuid}", found.prepared_by, full=True)
        except NewerFormat as e:
            self._report.add("pod-newer", pod.uuid, e.message, e.hint or "", damage=False)
        except FileNotFoundError:
            if not os.path.isdir(pod.path):
                return  # it moved on, and is seen there
            if pod.phase != EMBRYO:
                self.unreadable.append(pod.uuid)
                self._report.add("pod-envelope", pod.uuid, f"the envelope of pod {pod.uuid} is missing", _GC)
        except Corrupt as e:
            self.unreadable.append(pod.uuid)
            self._report.add("pod-envelope", pod.uuid, e.message, _GC)
        self._pods.append((pod, found))
        if found is not None:
            for tree in found.trees:
                self.trees.setdefault(tree, []).append(pod.uuid)
            for image in found.images:
                self._images.setdefault(image, []).append(pod.uuid)
            self.pins.setdefault(found.stage1.pin, (found.stage1.name, []))[1].append(pod.uuid)

    def check(self, images: dict[str, Image]) -> None:
        """Check what each pod's folder holds; `images` are those that can be read, by id."""
        places: dict[str, str] = {}
        for pod, found in self._pods:
            if not os.path.isdir(pod.path):
                continue
            other = places.setdefault(pod.uuid, pod.phase)
            if other != pod.phase and os.path.isdir(self._data.pod(other, pod.uuid)):
                message = f"pod {pod.uuid} is in {other} and in {pod.phase}"
                self._report.add("pod-twice", pod.uuid, message, "move one of the folders elsewhere")
            try:
                self._check_pod(pod, found)
            except FileNotFoundError:
                continue  # it moved on or was collected meanwhile
        for image, users in sorted(self._images.items()):
            if image not in images:
                message = f"image {image} is missing; pod {', '.join(users[:5])} was made from it"
                self._report.add("pod-image", image, message, "the pod runs without it; import the image again")

    def _check_pod(self, pod: PodRef, found: Envelope | None) -> None:
        trace("fsck:pod")
        if pod.phase in (EMBRYO, PREPARE) and not lock.is_locked(pod.path):
            self._check_abandoned(pod)
        for folder in ("", "status", "stage1", "logs"):
            for name in names(os.path.join(pod.path, folder)):
                if is_temporary(name):
                    path = os.path.join(pod.path, folder, name)
                    self._report.leftover(
                        "temporary", path, f"{path} was never finished", partial(self._lost.move, path)
                    )
        if pod.phase == EMBRYO:
            return
        self._check_ledger(pod)
        self._check_manifest(pod, found)
        self._check_record(pod, "the run record", lambda: status.read_runtime(pod.path))
        self._check_record(pod, "the gc record", lambda: records.read(os.path.join(pod.path, GC_FAILED)))
        for app in found.apps if found else ():
            self._check_record(pod, f"the status of app {app.name}", partial(status.read_app, pod.path, app.name))

    def _check_record(self, pod: PodRef, what: str, read: Callable[[], object]) -> None:
        try:
            read()
        except FileNotFoundError:
            return
        except (Corrupt, KeyError, TypeError, ValueError, AttributeError) as e:
            message = f"{what} of pod {pod.uuid} is damaged: {getattr(e, 'message', e)}"
            self._report.add("pod-record", pod.uuid, message, _GC)

    def _check_abandoned(self, pod: PodRef) -> None:
        what = "half made, and its maker is gone" if pod.phase == EMBRYO else "half prepared, and its maker is gone"
        fix = None
        if pod.phase == EMBRYO and not os.path.lexists(os.path.join(pod.path, "ledger")):

            def fix() -> str:
                fd = lock.try_lock(pod.path)
                if fd is None:
                    return "it is somebody's again"
                try:
                    return self._lost.move(pod.path)
                finally:
                    os.close(fd)

        self._report.add("pod-abandoned", pod.uuid, f"pod {pod.uuid} is {what}", _GC, damage=False, fix=fix)

    def _check_ledger(self, pod: PodRef) -> None:
        try:
            ledger = PodLedger(pod.path)
        except Corrupt as e:
            self._report.add(
                "pod-ledger", pod.uuid, f"pod {pod.uuid}: {e.message}", f"{_GC}, and looks for what is left"
            )
            return
        if ledger.damaged and not (pod.phase == RUN and lock.is_locked(pod.path)):
            message = f"{ledger.damaged} lines of the ledger of pod {pod.uuid} are damaged"
            self._report.add("pod-ledger", pod.uuid, message, f"{_GC}, and looks for what they may have named")

    def _check_manifest(self, pod: PodRef, found: Envelope | None) -> None:
        try:
            data = records.read_bytes(os.path.join(pod.path, MANIFEST), MAX_BYTES)
        except FileNotFoundError:
            if not os.path.isdir(pod.path):
                raise  # it moved on, or was collected meanwhile
            if pod.phase != "garbage":
                self._report.add("pod-manifest", pod.uuid, f"the manifest of pod {pod.uuid} is missing", _GC)
            return
        except (OSError, LimitExceeded) as e:
            self._report.add("pod-manifest", pod.uuid, f"the manifest of pod {pod.uuid} can't be read: {e}", _GC)
            return
        level, message = manifest_fault(pod.uuid, data, found)
        if level != "strict":
            self._report.add("pod-manifest", pod.uuid, message, _GC, damage=level == "salvage")
        elif found is not None and {a.name for a in parse_pod(data, own=True).apps} != {a.name for a in found.apps}:
            message = f"manifest and envelope of pod {pod.uuid} name different apps"
            self._report.add("pod-manifest", pod.uuid, message, _GC)
