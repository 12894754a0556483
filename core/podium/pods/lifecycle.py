"""Where a pod stands in its life: a folder (phase) and a lock. See docs/pod-lifecycle.md.

A transition is one rename, done by whoever holds the pod's lock.
"""

from __future__ import annotations

import os

from podium.errors import Ambiguous, BadUsage, Corrupt, NotFound
from podium.named import NamedTuple
from podium.paths import EMBRYO, EXITED_GARBAGE, GARBAGE, PHASES, PREPARE, PREPARED, RUN, DataDir
from podium.pods import envelope as envelopes
from podium.pods import lock

GC_FAILED = "gc-failed.json"
MIN_PREFIX = 4  # hex digits
_HEX = frozenset("0123456789abcdef")
_NAME = frozenset("abcdefghijklmnopqrstuvwxyz0123456789-_.")


class PodRef(NamedTuple):
    """A pod's place: `path` is its folder."""

    phase: str
    uuid: str
    path: str


def new_uuid() -> str:
    """A random uuid (RFC 4122 version 4) of the kernel's (random(4)): Python's module takes 3 ms to import."""
    with open("/proc/sys/kernel/random/uuid", encoding="utf-8") as f:  # "ascii" would be a module to import
        return f.read().strip()


def is_uuid(text: str) -> bool:
    """Whether `text` is a whole uuid as podium writes it."""
    return len(text) == 36 and text[8:24:5] == "----" and text.count("-") == 4 and _is_prefix(text)


def _is_prefix(text: str) -> bool:
    return set(text) <= _HEX | {"-"} and "--" not in text and text[:1] != "-"


def valid_name(name: str) -> bool:
    """Whether `name` can be a pod's name: 1–63 of a-z 0-9 - _ . , beginning and ending in a letter or digit."""
    return 0 < len(name) < 64 and set(name) <= _NAME and name[0].isalnum() and name[-1].isalnum() and not is_uuid(name)


def scan(data: DataDir) -> list[PodRef]:
    """All pods, in the order of their phases. What is no pod's folder is passed over."""
    pods = []
    for phase in PHASES:
        folder = data.phase(phase)
        try:
            names = os.listdir(folder)
        except FileNotFoundError:
            continue
        pods += [PodRef(phase, name, os.path.join(folder, name)) for name in sorted(names) if is_uuid(name)]
    return pods


def is_odd(path: str) -> bool:
    """Whether there is something in a pod's place that is no folder: a file or link that podium did not make."""
    return os.path.lexists(path) and (os.path.islink(path) or not os.path.isdir(path))


def find(data: DataDir, ref: str) -> PodRef:
    """The pod that `ref` names: a full uuid, a name, or an unambiguous prefix of a uuid of 4 hex digits or more.

    Raises:
        BadUsage: `ref` is none of these.
        NotFound: no such pod.
        Ambiguous: it fits several.
    """
    if is_uuid(ref):
        places = [PodRef(phase, ref, data.pod(phase, ref)) for phase in PHASES]
        for pod in places:
            if os.path.isdir(pod.path):
                return pod
        for pod in places:
            if os.path.lexists(pod.path):
                return pod  # no folder: a pod by name only, which can be shown and removed
        raise NotFound(f"no pod {ref}", hint="'podium list' shows all pods", subject=ref)
    prefix = len(ref) >= MIN_PREFIX and _is_prefix(ref)
    if not prefix and not valid_name(ref):
        raise BadUsage(
            f"{ref!r} is no pod: give a uuid, {MIN_PREFIX} or more of its first hex digits (lower case), or a name",
            subject=ref,
        )
    pods = scan(data)
    found = _living(named(data, pods, ref)) or [pod for pod in pods if prefix and pod.uuid.startswith(ref)]
    if len({pod.uuid for pod in found}) > 1:
        raise Ambiguous(
            f"{ref!r} fits {len(found)} pods: {', '.join(pod.uuid for pod in found[:5])}",
            hint="give more digits",
            subject=ref,
        )
    if not found:
        short = "" if prefix or len(ref) >= MIN_PREFIX else f" (a prefix needs {MIN_PREFIX} digits)"
        raise NotFound(f"no pod {ref!r}{short}", hint="'podium list' shows all pods", subject=ref)
    return found[-1]


def _living(pods: list[PodRef]) -> list[PodRef]:
    """Without those that are only waiting to be collected, if there are others: a name can be given again by then."""
    return [pod for pod in pods if pod.phase not in (EXITED_GARBAGE, GARBAGE)] or pods


def named(data: DataDir, pods: list[PodRef], name: str) -> list[PodRef]:
    """Those of `pods` whose envelope carries this name, where they are by now. A damaged envelope has no name."""
    found: dict[str, PodRef] = {}
    for pod in pods:
        place: PodRef | None = pod
        while place is not None:
            try:
                if envelopes.read(place.path).name == name:
                    found[place.uuid] = place
                break
            except FileNotFoundError:  # it moved on meanwhile, is gone, or has none yet
                before, place = place, again(data, place)
                place = place if place != before else None
            except Corrupt:
                break
    return list(found.values())


def again(data: DataDir, pod: PodRef) -> PodRef | None:
    """Where the pod is now; None when it is gone. For those who lost a race."""
    try:
        return find(data, pod.uuid)
    except NotFound:
        return None


def lock_pod(data: DataDir, pod: PodRef) -> tuple[PodRef, int | None] | None:
    """Lock a pod wherever it is by now.

    Returns:
        Its place and the descriptor that holds its lock (None: somebody else holds it); or None when it is gone.
    """
    now: PodRef | None = pod
    while now is not None:
        try:
            return now, lock.try_lock(now.path)
        except FileNotFoundError:
            now = again(data, now)
    return None


def move(data: DataDir, pod: PodRef, phase: str, *, durable: bool = True) -> PodRef:
    """The transition of a pod whose lock the caller holds to `phase`."""
    path = data.pod(phase, pod.uuid)
    os.rename(pod.path, path)
    if durable:
        from podium.linux.files import fsync_dir

        fsync_dir(data.phase(phase))
        fsync_dir(data.phase(pod.phase))
    return PodRef(phase, pod.uuid, path)


def state(pod: PodRef, *, populated: bool = False) -> str:
    """The state of CLI.md's list: a phase and a lock.

    Args:
        pod: the pod.
        populated: there are processes in its cgroup.

    Raises:
        FileNotFoundError: it moved on.
    """
    if pod.phase in (EMBRYO, PREPARED):
        return pod.phase
    locked = lock.is_locked(pod.path)
    if pod.phase == PREPARE:
        return "preparing" if locked else "prepare-failed"
    if pod.phase == RUN:
        return "running" if locked or populated else "exited"
    assert pod.phase in (EXITED_GARBAGE, GARBAGE)
    if locked:
        return "deleting"
    return "gc-failed" if os.path.lexists(os.path.join(pod.path, GC_FAILED)) else pod.phase
