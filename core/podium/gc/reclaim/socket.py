"""A socket's file: as any path."""

from __future__ import annotations

from podium.gc.reclaim.path import release as release
