"""Thin wrappers of what the Linux kernel offers: system calls, mounts, overlays, namespaces, cgroups, processes."""
