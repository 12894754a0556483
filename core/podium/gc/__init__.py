"""Collecting pods: mark, sweep, release, verify, delete. See docs/gc.md."""
