"""podium's own plugins pass the suite that third parties' have to pass, unmodified."""

from __future__ import annotations

from podium.testing import Stage1Suite


class TestFly(Stage1Suite):
    plugin = "fly"


class TestNspawn(Stage1Suite):
    plugin = "nspawn"
