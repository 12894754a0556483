"""What is read of a pod in a pass: once, under its lock."""

from __future__ import annotations

import os

from podium.errors import Corrupt, NewerFormat, PodiumError
from podium.named import NamedTuple
from podium.paths import EMBRYO
from podium.pods import envelope as envelopes
from podium.pods import ledger as ledgers
from podium.pods import status
from podium.pods.envelope import Envelope
from podium.pods.ledger import PodLedger
from podium.pods.lifecycle import PodRef


class Known(NamedTuple):
    """The frozen and the fleeting record of a pod.

    Attributes:
        envelope: None: `problem` says why.
        problem: the envelope is damaged or missing.
        newer: it uses a feature that forbids this podium any use of it.
        runtime: None: it was never run, or its record is damaged.
    """

    envelope: Envelope | None
    problem: PodiumError | None
    newer: NewerFormat | None
    runtime: status.Runtime | None


def read(pod: PodRef) -> Known:
    """Read what gc needs of a pod; what is damaged is None."""
    envelope: Envelope | None = None
    problem: PodiumError | None = None
    newer: NewerFormat | None = None
    try:
        envelope = envelopes.read(pod.path)
        if envelope.uuid != pod.uuid:
            problem = Corrupt(f"the envelope of pod {pod.uuid} is that of {envelope.uuid}", subject=pod.uuid)
            envelope = None
        else:
            envelope.features.require(f"pod {pod.uuid}", envelope.prepared_by, full=False)
    except FileNotFoundError:
        if pod.phase != EMBRYO:
            problem = Corrupt(f"the envelope of pod {pod.uuid} is missing", subject=pod.uuid)
    except NewerFormat as e:
        newer = e
    except (Corrupt, OSError) as e:
        problem = e if isinstance(e, Corrupt) else Corrupt(str(e), subject=pod.uuid)
    try:
        runtime = status.read_runtime(pod.path)
    except (Corrupt, OSError, AttributeError):
        runtime = None
    return Known(envelope, problem, newer, runtime)


def ledger_size(pod: PodRef) -> int:
    """Bytes of the ledger's file; -1: there is none."""
    try:
        return os.lstat(os.path.join(pod.path, ledgers.FILE)).st_size
    except FileNotFoundError:
        return -1


def read_ledger(pod: PodRef) -> tuple[PodLedger, int]:
    """The ledger, and its size. One that can't be read at all is put aside: plugin and audit do without."""
    try:
        return PodLedger(pod.path), ledger_size(pod)
    except (Corrupt, OSError):
        path = os.path.join(pod.path, ledgers.FILE)
        os.rename(path, path + ".damaged")
        return PodLedger(pod.path), -1
