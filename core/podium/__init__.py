"""podium: a daemonless pod runtime (see docs/ and `podium --help`)."""

__version__ = "0.1.0"
