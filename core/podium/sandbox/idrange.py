"""A range of user and group ids of a pod's own, for its user namespace.

No table of ranges is kept, so none can leak. The range is derived from the pod's uuid, and taken by binding an abstract
socket whose name carries it: the kernel lets one process have the name, and frees it with the last descriptor. A range
is passed over, too, while any process of the host has an id in it: those that a killed supervisor left, and other
programs' containers. The ledger records it for people; a range whose pod has no process is nobody's.
"""

from __future__ import annotations

import os

from podium.errors import HostLacks
from podium.types import Ledger, Pod

TYPE_CHECKING = False
if TYPE_CHECKING:
    from _socket import socket
    from collections.abc import Callable, Mapping
    from typing import Self

COUNT = 1 << 16
# What systemd sets aside for containers (systemd.io/UIDS-GIDS): 524288 to 1879048191.
_FIRST, _LAST = 0x00080000, 0x6FFF0000
_RANGES = (_LAST - _FIRST) // COUNT + 1
_ATTEMPTS = 1000


class IdRange:
    """A range that is held until `close`, and as long as a process that inherited its socket lives.

    Attributes:
        base: what 0 in the pod is on the host; COUNT ids follow.
    """

    def __init__(self, base: int, claim: socket) -> None:
        self.base = base
        self._claim = claim

    def handed_on(self, keep: Callable[[int], int]) -> dict[str, int]:
        """See `podium.types.LastingSandbox.handed_on`."""
        return {"base": self.base, "claim": keep(self._claim.fileno())}

    @classmethod
    def taken_over(cls, record: Mapping[str, int]) -> Self:
        """The range that `handed_on` told of."""
        from _socket import socket

        return cls(record["base"], socket(fileno=record["claim"]))

    def close(self) -> None:
        """Let go of it, once no process of the pod is left."""
        self._claim.close()


def first_choice(uuid: str) -> int:
    """Base of the range that a pod gets if nobody has it."""
    return _FIRST + int(uuid.replace("-", ""), 16) % _RANGES * COUNT


def take(pod: Pod, ledger: Ledger) -> IdRange:
    """Take a range for a pod and record it.

    Raises:
        HostLacks: the ranges that were tried are all in use.
    """
    start = (first_choice(pod.uuid) - _FIRST) // COUNT
    for attempt in range(min(_ATTEMPTS, _RANGES)):
        base = _FIRST + (start + attempt) % _RANGES * COUNT
        claim = _claim(base)
        if claim is None:
            continue
        if _used(base):
            claim.close()
            continue
        ledger.held(ledger.intend("ids", f"{base}:{COUNT}"))
        return IdRange(base, claim)
    raise HostLacks(
        f"no range of {COUNT} user ids is free: {_ATTEMPTS} of those between {_FIRST} and {_LAST + COUNT} are in use",
        hint="end pods with --private-users, or containers of other programs",
        subject=pod.uuid,
    )


def _claim(base: int) -> socket | None:
    from _socket import AF_UNIX, SOCK_CLOEXEC, SOCK_DGRAM, socket

    claim = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC)
    try:
        claim.bind(f"\0podium/ids/{base}")
    except OSError:  # EADDRINUSE
        claim.close()
        return None
    return claim


def _used(base: int) -> bool:
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                if base <= os.stat(f"/proc/{name}").st_uid < base + COUNT:
                    return True
            except FileNotFoundError:
                pass
    return False
