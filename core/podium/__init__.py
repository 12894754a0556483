"""podium: a daemonless pod runtime (see docs/ and `podium --help`)."""

__version__ = "0.2.0.dev0"

TYPE_CHECKING = False
if TYPE_CHECKING:
    from podium.runtime import Runtime

__all__ = ["Runtime", "__version__"]


def __getattr__(name: str) -> object:
    """`Runtime`, imported when it is first asked for: the command line's start must not pay for it."""
    if name == "Runtime":
        from podium.runtime import Runtime

        return Runtime
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
