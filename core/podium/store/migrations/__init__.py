"""Versions of the index's schema, in order; `PRAGMA user_version` says how many of them were applied.

The index is only a cache, but its schema is migrated rather than thrown away so that a large store does not pay for an
upgrade. Each step runs in one transaction with the version that it leads to.
"""

from __future__ import annotations

from podium.store.migrations import v0001, v0002

STEPS = (v0001.apply, v0002.apply)
VERSION = len(STEPS)
