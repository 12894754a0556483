"""Annotations of podium's own, for what appc has no member for (docs/on-disk-format.md), that several modules need."""

from __future__ import annotations

STOP_SIGNAL = "podium/stop-signal"  # the OCI StopSignal, a name or a number
SUPPLEMENTARY = "podium/supplementary-groups"
CGROUP_PARENT = "podium/cgroup-parent"
NET = "podium/net"
HOSTNAME = "podium/hostname"
DNS_OPTIONS = "podium/dns-opt"
DNS_DOMAIN = "podium/dns-domain"
