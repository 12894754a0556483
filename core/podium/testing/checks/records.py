"""Pods that another version prepared, and records that are damaged."""

from __future__ import annotations

import os
from typing import Any, ClassVar

from podium.testing.pods import Pods


def _as_if_by(folder: str, interface: int, state: int) -> None:
    """Let a pod's record say that code prepared it which is gone, of this interface and state."""
    from podium.pods import envelope as envelopes

    envelope = envelopes.read(folder)
    gone = {"digest": f"sha256:{0:064x}", "pin": f"sha256-{0:064x}", "version": "0.0.1"}
    stage1 = envelope.stage1._replace(interface=interface, state=state, **gone)
    envelopes.write(folder, envelope._replace(stage1=stage1))


class RecordChecks:
    """See the package."""

    plugin: ClassVar[str]

    def age(self, folder: str, interface: int, state: int) -> None:
        """Let the pod in `folder`, just prepared, be one of an older version. Override this to write files as that
        version wrote them, too.
        """
        _as_if_by(folder, interface, state)

    def test_older_pods(self, pods: Pods, info: dict[str, Any]) -> None:
        """Pods of each (interface, state) of `serves` are run and collected by the installed code; another is refused,
        and collected all the same.
        """
        for interface, state in info["serves"]:
            uuid = pods.prepare("exit 4")
            self.age(pods.path(uuid), interface, state)
            pods.podium("run-prepared", uuid, check=4)
            failed = pods.gc()
            assert not failed, f"a pod of interface {interface}, state {state}: {failed}"
        uuid = pods.prepare("true")
        _as_if_by(pods.path(uuid), 0, 1 + max((state for _, state in info["serves"]), default=0))
        refused = pods.podium("run-prepared", uuid, check=None)
        assert refused.returncode != 0 and "can't be used" in refused.stderr, refused.stderr
        failed = pods.gc()
        assert not failed, failed

    def test_gc_needs_no_manifest(self, pods: Pods) -> None:
        """A pod that has ended and whose manifest is damaged is collected."""
        uuid = pods.exited()
        with open(os.path.join(pods.path(uuid), "pod"), "w", encoding="ascii") as f:
            f.write("{")
        failed = pods.gc()
        assert not failed, failed
