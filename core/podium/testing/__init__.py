"""The conformance suite that any stage1 plugin passes, and what it looks at the host with. Needs `podium[testing]`.

    from podium.testing import Stage1Suite

    class TestConformance(Stage1Suite):
        plugin = "sample"

See docs/stage1-plugin-guide.md.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from podium.testing.suite import Stage1Suite as Stage1Suite

__all__ = ("Stage1Suite",)


def __getattr__(name: str) -> object:
    """The suite, when it is asked for: it imports pytest, which the scaffold has no need of."""
    if name != "Stage1Suite":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import pytest

    pytest.register_assert_rewrite("podium.testing.checks", "podium.testing.suite")
    from podium.testing.suite import Stage1Suite

    return Stage1Suite
