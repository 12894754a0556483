"""What every action works on."""

from __future__ import annotations

from podium.named import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from podium.config import Config
    from podium.paths import DataDir


class Context(NamedTuple):
    """The data directory and the configuration of one `Runtime`."""

    data: DataDir
    config: Config
