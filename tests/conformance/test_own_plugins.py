"""podium's own plugins pass the suite that third parties' have to pass, unmodified."""

from __future__ import annotations

from podium.testing import Stage1Suite


class TestFly(Stage1Suite):
    plugin = "fly"


class TestNspawn(Stage1Suite):
    plugin = "nspawn"


class TestKvm(Stage1Suite):
    """See conftest.py for which checks every run makes."""

    plugin = "kvm"
    limit = 60.0
