"""Brute force is podium.testing's; tests may use it from here too."""

from podium.testing.cleanup import *  # noqa: F403
