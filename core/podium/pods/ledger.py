"""The ledger: a pod's write-ahead list of every host resource taken for it.

One sealed record a line, only appended:

    {"n":1,"op":"intent","kind":"cgroup","id":"podium/…","attrs":{…},"boot":"…","at":"…","crc32":"…"}
    {"n":1,"op":"held","attrs":{…},"crc32":"…"}
    {"n":1,"op":"released","by":"plugin","crc32":"…"}

An intent is written before the resource is taken, so that after a crash at any moment gc knows where to look. Kinds
that a reboot clears are not fsynced; kinds that outlive it are. A line that is damaged (the last one, when the machine
lost its power) is skipped and counted; the audit finds what it may have named.
"""

from __future__ import annotations

import errno
import os

from podium import records
from podium.clock import rfc3339
from podium.contexts import contextmanager
from podium.errors import Corrupt, LimitExceeded
from podium.linux.procs import boot_id
from podium.types import Resource

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

FILE = "ledger"
MAX_LEDGER = 16 << 20  # bytes

CLEARED_BY_REBOOT = frozenset({"mount", "netns", "link", "cgroup", "process", "loop", "socket", "ids"})


class PodLedger:
    """The ledger in a pod's folder. See `podium.types.Ledger`.

    Args:
        folder: the pod's.
        read: without it, nothing is known of the entries: enough to tell that one is released, even if somebody has
            damaged the file meanwhile.
    """

    def __init__(self, folder: str, *, read: bool = True) -> None:
        self._path = os.path.join(folder, FILE)
        self._entries: dict[int, Resource] = {}
        self._boots: dict[int, str] = {}
        self.damaged = 0
        self._ends_in_line = read
        if read:
            self._read()

    def intend(self, kind: str, id: str, **attrs: Any) -> int:
        """Record the intent to take a resource, durably where it outlives a reboot; returns the entry's number."""
        number = max(self._entries, default=0) + 1
        record = {"n": number, "op": "intent", "kind": kind, "id": id, "attrs": attrs}
        self._append({**record, "boot": boot_id(), "at": rfc3339()}, durable=kind not in CLEARED_BY_REBOOT)
        return number

    def held(self, number: int, **attrs: Any) -> None:
        """Record that the resource is held; `attrs` are added to the intent's."""
        durable = self._entries[number].kind not in CLEARED_BY_REBOOT
        self._append({"n": number, "op": "held", "attrs": attrs}, durable=durable)

    def released(self, number: int, by: str = "plugin") -> None:
        """Record that the resource is gone; `by` is plugin, ledger or audit."""
        record = {"n": number, "op": "released", "by": by}
        try:
            self._append(record, durable=False)
        except OSError as e:
            if e.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            # A full disk must not keep a pod from being collected; the next reader finds that nothing is there.
            self._apply(record)

    def outstanding(self) -> list[Resource]:
        """What is intended or held and not released, oldest first."""
        return [self._entries[n] for n in sorted(self._entries) if n in self._boots]

    def from_this_boot(self, resource: Resource) -> bool:
        """Whether the machine has not been restarted since the resource was taken."""
        return self._boots.get(resource.number) == boot_id()

    @contextmanager
    def take(self, kind: str, id: str, **attrs: Any) -> Iterator[int]:
        """`intend` on entry of the block, `held` when it ends without an exception."""
        number = self.intend(kind, id, **attrs)
        yield number
        self.held(number)

    def _append(self, record: dict[str, Any], *, durable: bool) -> None:
        line = records.seal(record) + b"\n"
        if not self._ends_in_line:
            line, self._ends_in_line = b"\n" + line, True
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
        fd = os.open(self._path, flags, 0o600)
        try:
            os.write(fd, line)
            if durable:
                os.fdatasync(fd)
        finally:
            os.close(fd)
        self._apply(record)

    def _read(self) -> None:
        try:
            data = records.read_bytes(self._path, MAX_LEDGER)
        except FileNotFoundError:
            return
        except LimitExceeded as e:
            raise Corrupt(f"the ledger is damaged: {e.message}", subject=self._path) from None
        except OSError as e:
            raise Corrupt(f"the ledger can't be read: {e.strerror}", subject=self._path) from None
        self._ends_in_line = not data or data.endswith(b"\n")
        for line in data.split(b"\n"):
            if line:
                try:
                    self._apply(records.unseal(line, self._path))
                except (Corrupt, KeyError, TypeError, ValueError):
                    self.damaged += 1

    def _apply(self, record: dict[str, Any]) -> None:
        number, op = record["n"], record["op"]
        if type(number) is not int or not 0 < number < 1 << 31:
            raise ValueError(f"{number!r} is no entry's number")
        if op == "intent":
            kind, id, attrs = str(record["kind"]), str(record["id"]), dict(record["attrs"])
            self._entries[number] = Resource(number=number, kind=kind, id=id, attrs=attrs, held=False)
            self._boots[number] = str(record["boot"])
        elif op == "held":
            old = self._entries[number]
            attrs = {**old.attrs, **record["attrs"]}
            self._entries[number] = Resource(number=number, kind=old.kind, id=old.id, attrs=attrs, held=True)
        elif op == "released":
            self._boots.pop(number, None)
        # Any other operation is a newer podium's; it says nothing about what is held.
