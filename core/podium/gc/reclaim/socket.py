"""Unix sockets in the file system; see `path`."""

from __future__ import annotations

from podium.gc.reclaim.path import present as present
from podium.gc.reclaim.path import release as release
