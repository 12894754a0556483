"""Every path in the data directory, in one place.

    /var/lib/podium/            root (--dir or PODIUM_DIR)
      format.json
      blobs/sha256/<hex>
      images/<hex>.json         beside it <hex>.used, whose time is when it was last used
      trees/<id>/{rootfs,tree.json}
      erofs/<id>.img
      kernels/sha256-<hex>/
      index.db
      stage1/sha256-<hex>/
      pods/<phase>/<uuid>/
      tmp/                      half-made things; whoever holds the lock of one owns it
      locks/                    files that are only ever locked
      backup/format-<n>/        what a migration changed, as it was
      migrations.log
      lost+found/               what fsck removed
      events/                   what happened: log, log.1 …
      cache/                    may be deleted at any time

Nothing stores an absolute path: a data directory can be moved, or reached by another name.
"""

from __future__ import annotations

import os

DEFAULT_ROOT = "/var/lib/podium"
DEFAULT_CGROUP = "podium"  # of the pods' cgroups, below every hierarchy, unless the configuration names another

EMBRYO, PREPARE, PREPARED, RUN, EXITED_GARBAGE, GARBAGE = PHASES = (
    "embryo",
    "prepare",
    "prepared",
    "run",
    "exited-garbage",
    "garbage",
)
DELETING = "gc-"  # prefix in tmp/ of a pod that is being deleted
MANIFEST = "pod"  # the pod manifest's name in a pod's folder


class DataDir:
    """The data directory; `root` is an absolute path."""

    __slots__ = ("root",)

    def __init__(self, root: str) -> None:
        self.root = root

    @classmethod
    def find(cls, given: str | None = None) -> DataDir:
        """`given` (--dir), else PODIUM_DIR, else /var/lib/podium."""
        return cls(os.path.abspath(given or os.environ.get("PODIUM_DIR") or DEFAULT_ROOT))

    def at(self, *parts: str) -> str:
        """A path below the root."""
        return os.path.join(self.root, *parts)

    @property
    def format(self) -> str:
        """format.json, which names the format and its feature flags."""
        return self.at("format.json")

    @property
    def blobs(self) -> str:
        """What was imported, byte for byte, named by its sha256."""
        return self.at("blobs", "sha256")

    @property
    def images(self) -> str:
        """One JSON record an image."""
        return self.at("images")

    @property
    def trees(self) -> str:
        """Rendered images."""
        return self.at("trees")

    @property
    def erofs(self) -> str:
        """What a stage1 derives from a tree and shares between pods."""
        return self.at("erofs")

    @property
    def kernels(self) -> str:
        """Kernels of guests."""
        return self.at("kernels")

    @property
    def events(self) -> str:
        """The log of events, and how far it was delivered."""
        return self.at("events")

    @property
    def index(self) -> str:
        """The SQLite index of images/."""
        return self.at("index.db")

    @property
    def pins(self) -> str:
        """Pinned code."""
        return self.at("stage1")

    @property
    def pods(self) -> str:
        """Pods, a folder for each phase."""
        return self.at("pods")

    @property
    def tmp(self) -> str:
        """Half-made things."""
        return self.at("tmp")

    @property
    def locks(self) -> str:
        """Lock files."""
        return self.at("locks")

    @property
    def backup(self) -> str:
        """What migrations changed, as it was."""
        return self.at("backup")

    @property
    def migrations(self) -> str:
        """The log of migrations: sealed records, one a line."""
        return self.at("migrations.log")

    @property
    def lost(self) -> str:
        """What fsck removed from its place."""
        return self.at("lost+found")

    @property
    def cache(self) -> str:
        """What may be deleted at any time."""
        return self.at("cache")

    @property
    def partial(self) -> str:
        """What has arrived of blobs that are being fetched, named by their sha256."""
        return self.at("cache", "partial")

    def blob(self, hex_digest: str) -> str:
        """A blob by its digest, without `sha256:`."""
        return self.at("blobs", "sha256", hex_digest)

    def image(self, hex_digest: str) -> str:
        """An image's record by its id, without `sha256:`."""
        return self.at("images", hex_digest + ".json")

    def used(self, hex_digest: str) -> str:
        """An empty file beside an image's record, whose time says when the image was last used."""
        return self.at("images", hex_digest + ".used")

    def tree(self, tree_id: str) -> str:
        """A tree's folder."""
        return self.at("trees", tree_id)

    def rootfs(self, tree_id: str) -> str:
        """A tree's rootfs."""
        return self.at("trees", tree_id, "rootfs")

    def pin(self, pin: str) -> str:
        """A pin's folder; `pin` is `sha256-<hex>`."""
        return self.at("stage1", pin)

    def phase(self, phase: str) -> str:
        """The folder of a phase."""
        return self.at("pods", phase)

    def pod(self, phase: str, uuid: str) -> str:
        """A pod's folder while it is in `phase`."""
        return self.at("pods", phase, uuid)
