"""The snapshot of the host is podium.testing's; tests may use it from here too."""

from podium.testing.snapshot import *  # noqa: F403
