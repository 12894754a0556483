"""What every action works on."""

from __future__ import annotations

from podium.named import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from podium.config import Config
    from podium.events.emitter import Emitter
    from podium.paths import DataDir
    from podium.store.store import Store


class Context(NamedTuple):
    """The data directory and the configuration of one `Runtime`, and who is told of long work (see there)."""

    data: DataDir
    config: Config
    progress: Callable[..., None] | None = None

    def emitter(self) -> Emitter:
        """Who logs events of pods."""
        from podium.events.emitter import Emitter

        return Emitter(self.data, self.config.get("hooks", "dir"))

    def store(self) -> Store:
        """The images, with the configured limits."""
        from podium.store.limits import Limits
        from podium.store.store import Store

        get = self.config.get
        return Store(self.data, Limits(max_bytes=get("images", "max-bytes"), max_entries=get("images", "max-entries")))
