"""Holding store, pins, pods and index against each other and against their digests: `checker` is the way in."""
