"""What importing and unpacking an image may take, so that no archive can exhaust the host."""

from __future__ import annotations

from podium.errors import BadInput, LimitExceeded
from podium.named import NamedTuple

# Hints
MAX_BYTES = "max-bytes below [images] in the configuration sets that limit"
MAX_ENTRIES = "max-entries below [images] in the configuration sets that limit"


class Limits(NamedTuple):
    """Bounds on one image; what is beyond is refused with LimitExceeded.

    Attributes:
        max_bytes: of all files' content that is written, and of each stored or decompressed archive.
        max_entries: entries of all layers, with the folders that are made for them.
        max_apparent: bytes of all files' sizes, with the holes in them.
        max_path: bytes of a path or of a link's target (PATH_MAX).
        max_depth: folders in each other.
        max_header: bytes of one extended header (pax, GNU long name).
        max_extents: parts of one sparse file.
        max_ratio: bytes that one compressed byte may become, once `ratio_from` bytes came out.
        ratio_from: bytes that may come out at any ratio.
        max_layers: of one image.
        max_manifest: bytes of one manifest, index or configuration.
    """

    max_bytes: int = 64 << 30
    max_entries: int = 4_000_000
    max_apparent: int = 1 << 40
    max_path: int = 4096
    max_depth: int = 256
    max_header: int = 1 << 20
    max_extents: int = 100_000
    max_ratio: int = 1000
    ratio_from: int = 256 << 20
    max_layers: int = 512
    max_manifest: int = 4 << 20


def located(error: BadInput, where: str) -> BadInput:
    """The same error, with the place before its message."""
    kind = LimitExceeded if isinstance(error, LimitExceeded) else BadInput
    return kind(f"{where}: {error.message}", hint=error.hint, subject=error.subject)
