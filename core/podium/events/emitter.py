"""From transitions to events.

What is due is read off a pod's phase and records, not remembered: so whoever looks at a pod next makes good what
somebody who was killed between a transition and its event has missed. What was logged is noted in the pod's `events`
file, after it was logged: a kill between the two repeats the event, with the same id. Notes of another boot are held
against the log, whose end a power failure may have cost.
"""

from __future__ import annotations

import fcntl
import os

from podium.errors import Corrupt
from podium.events import log
from podium.events.record import Event
from podium.linux.procs import boot_id
from podium.paths import EXITED_GARBAGE, GARBAGE, PREPARED, RUN, DataDir
from podium.pods import envelope as envelopes
from podium.pods import lifecycle, status
from podium.trace import trace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

NOTED = "events"  # in a pod's folder
STOPPING = "stopping"
COLLECTED = "collected"  # in place of a phase: its folder was taken out of pods/
_BOOT = "boot:"  # begins a line of NOTED: the boot in which those after it were written
_MISSED = 16  # ends of one app; each is logged as it comes, and a damaged count of restarts must not keep gc busy
_Due = list[tuple[str, str, "dict[str, Any]"]]  # transition, kind, details


class Emitter:
    """Logs events and wakes who delivers them.

    Args:
        data: where.
        hooks: the folder of TOML hooks.
        mounts: descriptor of the mount namespace in which who delivers is started, where this process leaves its own
            (see `podium.linux.namespaces.own_mounts`); -1: it does not.
    """

    def __init__(self, data: DataDir, hooks: str, mounts: int = -1) -> None:
        self._data = data
        self._hooks = hooks
        self._mounts = mounts
        self._anything = False  # was logged
        self._logged: tuple[frozenset[str], Event | None] | None = None  # ids of all events, and the oldest

    def pod(self, phase: str, folder: str, uuid: str) -> None:
        """Log what is due of a pod, for `wake`. Never an error: an event is no reason to fail a transition."""
        try:
            self._pod(phase, folder, uuid)
        except OSError:
            pass  # the pod moved on, or the disk is full: it stays due

    def _pod(self, phase: str, folder: str, uuid: str) -> None:
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
        fd = os.open(os.path.join(folder, NOTED), flags, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            noted, boot = self._noted(fd, folder, uuid)
            failed = os.path.join(folder, lifecycle.GC_FAILED)
            if phase in (EXITED_GARBAGE, GARBAGE) and "marked" in noted and not os.path.lexists(failed):
                return  # gc asks again for each pod that it collects: in vain but for those that another gc marked
            try:
                envelope = envelopes.read(folder)
            except (Corrupt, OSError):
                envelope = None
            due = [d for d in _due(phase, folder, envelope) if d[0] not in noted]
            if not due:
                os.write(fd, boot)
                return
            common = _common(envelope)
            trace("event:due")
            log.append(self._data, [Event(f"{uuid}:{t}", kind, uuid, {**common, **more}) for t, kind, more in due])
            self._anything = True
            trace("event:logged")
            os.write(fd, boot + "".join(f"{t}\n" for t, _, _ in due).encode())
        finally:
            os.close(fd)
        trace("event:noted")

    def _noted(self, fd: int, folder: str, uuid: str) -> tuple[set[str], bytes]:
        """What of a pod was logged, by its file and the log; and what has to be in the file before the next note."""
        lines = os.pread(fd, 1 << 20, 0).decode(errors="replace").split("\n")
        noted, now = set(lines), f"{_BOOT}{boot_id()}"
        if now == next((line for line in reversed(lines) if line.startswith(_BOOT)), ""):
            return noted, b""
        if noted != {""}:
            noted -= self._lost(noted, folder, uuid)
        return noted, now.encode() + b"\n"

    def _lost(self, noted: set[str], folder: str, uuid: str) -> set[str]:
        """Those that are not in the log, although it goes back to before the pod was made."""
        if self._logged is None:
            events = list(log.read(self._data))
            self._logged = frozenset(event.id for event in events), events[0] if events else None
        ids, oldest = self._logged
        try:
            created = envelopes.read(folder).created
        except (Corrupt, OSError):
            return set()
        if oldest is not None and oldest.seq > 1 and oldest.time > created:
            return set()
        return {transition for transition in noted if f"{uuid}:{transition}" not in ids}

    def sync(self) -> None:
        """Let what this emitter logged outlive a power failure."""
        if self._anything:
            log.sync(self._data)

    def pods(self) -> None:
        """Make good what was missed of any pod."""
        for pod in lifecycle.scan(self._data):
            if pod.phase in (PREPARED, RUN, EXITED_GARBAGE, GARBAGE):
                self.pod(pod.phase, pod.path, pod.uuid)

    def wake(self) -> None:
        """Start who delivers, if there is anything new and anybody to deliver it to: once for all that was logged."""
        from podium.events import consumers

        consumers.wake(self._data, self._hooks, self._mounts)


def _common(envelope: envelopes.Envelope | None) -> dict[str, Any]:
    if envelope is None:
        return {}
    return {
        "name": envelope.name,
        "stage1": envelope.stage1.name,
        "labels": envelope.labels,
        "images": [app.image for app in envelope.apps],
    }


def _due(phase: str, folder: str, envelope: envelopes.Envelope | None) -> _Due:
    """Every transition that the pod has been through, as far as its folder tells, in order."""
    due: _Due = []
    if phase in (PREPARED, RUN, EXITED_GARBAGE):
        due.append(("prepared", "pod-prepared", {}))
    if phase in (RUN, EXITED_GARBAGE):
        due += _run(phase, folder, envelope)
    if phase in (EXITED_GARBAGE, GARBAGE):
        due.append(("marked", "pod-marked", {"phase": phase}))
        if os.path.lexists(os.path.join(folder, lifecycle.GC_FAILED)):
            due.append(("gc-failed", "pod-gc-failed", _failure(folder)))
    if phase == COLLECTED:
        due.append(("collected", "pod-collected", {}))
    return due


def _run(phase: str, folder: str, envelope: envelopes.Envelope | None) -> _Due:
    due: _Due = []
    try:
        runtime = status.read_runtime(folder)
    except (Corrupt, OSError):
        runtime = None
    if runtime is not None and runtime.started:
        due.append(("started", "pod-started", {}))
    ends: list[tuple[str, _Due]] = []
    for app in envelope.apps if envelope else ():
        try:
            now = status.read_app(folder, app.name)
        except (Corrupt, OSError):
            continue
        # One that was running when its supervisor was killed has ended with the pod, nobody knows how.
        last = now.restarts + (now.state == "exited" or (now.state == "running" and phase == EXITED_GARBAGE))
        of_app: _Due = []
        for number in range(max(0, last - _MISSED), last):
            code = now.exit_code if number == last - 1 and now.state != "running" else None
            more = {"app": app.name, "exit_code": code, "restarts": number}
            of_app.append((f"app-exited:{app.name}:{number}", "app-exited", more))
        ends.append((now.finished or "", of_app))
    for _, of_app in sorted(ends, key=lambda end: end[0]):
        due += of_app
    if phase == EXITED_GARBAGE or (runtime is not None and runtime.finished):
        due.append(("exited", "pod-exited", {"exit_code": runtime.exit_code if runtime else None}))
        if os.path.lexists(os.path.join(folder, STOPPING)):
            due.append(("stopped", "pod-stopped", {"exit_code": runtime.exit_code if runtime else None}))
    return due


def _failure(folder: str) -> dict[str, Any]:
    from podium import records

    try:
        record = records.read(os.path.join(folder, lifecycle.GC_FAILED), "the gc record")
    except (Corrupt, OSError):
        return {}
    return {"reason": str(record.get("reason")), "message": str(record.get("message"))}


def stopping(folder: str) -> None:
    """Note, before a pod is stopped, that its end will have been asked for."""
    try:
        path = os.path.join(folder, STOPPING)
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600))
    except OSError:
        pass  # a full disk is no reason not to stop it
