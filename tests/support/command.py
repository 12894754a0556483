"""The podium command is podium.testing's; tests may use it from here too."""

from podium.testing.command import *  # noqa: F403
