"""Pods on disk: envelope, lock, phase, ledger, status."""
