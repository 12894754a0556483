"""Collecting pods that have ended: mark, sweep, audit. See docs/gc.md."""
