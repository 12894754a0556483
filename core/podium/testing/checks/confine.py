"""Isolators and other confinement that the plugin claims, each by its effect on an app."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping
from typing import Any, ClassVar

import pytest

from podium.linux.disks import whole_disk
from podium.linux.limits import IoLimit, Limits, missing
from podium.testing.checks.hooks import ASKING
from podium.testing.effects import Effect, Shown
from podium.testing.pods import Pods
from podium.testing.snapshot import cgroup_mounts

# Isolator → a shell command of an app with the options of `ASKING`, and what it prints last; None: `begun`, no `all`.
_EFFECTS = {
    "capabilities": ("grep CapEff /proc/self/status | cut -f2", "0000000000002000"),  # CAP_NET_RAW is bit 13
    "no-new-privileges": ("grep NoNewPrivs /proc/self/status | cut -f2", "1"),
    "seccomp": ("mkdir /tmp/made 2>/dev/null && echo made || echo refused", "refused"),
    "oom-score-adj": ("cat /proc/self/oom_score_adj", "500"),
    "rlimits": ("ulimit -n", "77"),
    "pids": ("echo begun; for i in $(seq 40); do sleep 3 & done 2>/dev/null; echo all", None),
    "memory": ("echo begun; dd if=/dev/zero of=/dev/null bs=200M count=1 2>/dev/null && echo all", None),
}
# Isolator → its name and value in a manifest, a shell command of an app with it, and what that prints.
_IN_MANIFEST: dict[str, tuple[str, Any, str, str]] = {
    "masked-paths": ("podium/masked-paths", {"set": ["/etc/passwd"]}, "wc -c < /etc/passwd", "0"),
    "readonly-paths": (
        "podium/readonly-paths",
        {"set": ["/tmp"]},
        "{ echo x > /tmp/new; } 2>/dev/null && echo written || echo refused",
        "refused",
    ),
    "sysctl": ("os/unix/sysctl", {"net.ipv4.ip_default_ttl": "77"}, "cat /proc/sys/net/ipv4/ip_default_ttl", "77"),
}
# Isolator → control group files, v2 and v1, and what they hold with the options of `ASKING`.
_CONTROLS: dict[str, dict[str, tuple[str, ...]]] = {
    "cpu": {"cpu.max": ("50000 100000",), "cpu.cfs_quota_us": ("50000",)},
    "cpu-shares": {"cpu.weight": ("20", "59"), "cpu.shares": ("512",)},
}


# Isolator of a manifest, its limit, and control group files, v2 and v1, with what is in them for some device.
_OF_DISKS = {
    "block-bandwidth": ("1Mi", {"io.max": "wbps=1048576", "blkio.throttle.write_bps_device": "1048576"}),
    "block-iops": ("77", {"io.max": "wiops=77", "blkio.throttle.write_iops_device": "77"}),
}


def effects() -> dict[str, Effect]:
    """Check → what it looks at."""
    return {
        **{
            f"test_isolator[{name}]": Effect(f"isolator:{name}", command, app=ASKING[f"isolator:{name}"][1])
            for name, (command, _) in _EFFECTS.items()
        },
        **{
            f"test_isolator_of_a_manifest[{name}]": Effect(f"isolator:{name}", command, change=_asks(isolator, value))
            for name, (isolator, value, command, _) in _IN_MANIFEST.items()
        },
        "test_event_handlers": Effect("event-handlers", "cat /pre", change=_handles),
        "test_readonly_rootfs": Effect(
            *("readonly-rootfs", "{ echo x > /new; } 2>/dev/null && echo written || echo refused"),
            app=("--readonly-rootfs",),
        ),
    }


def _asks(isolator: str, value: Any) -> Callable[[dict[str, Any]], None]:
    def change(app: dict[str, Any]) -> None:
        app.setdefault("isolators", []).append({"name": isolator, "value": value})

    return change


def _handles(app: dict[str, Any]) -> None:
    app["eventHandlers"] = [{"name": "pre-start", "exec": ["/bin/sh", "-c", "echo first > /pre"]}]


class ConfineChecks:
    """See the package."""

    plugin: ClassVar[str]

    @pytest.mark.parametrize("name", _EFFECTS)
    def test_isolator(self, shown: Mapping[str, Shown], claims: frozenset[str], name: str) -> None:
        """An app that the isolator confines can't do what another can."""
        if f"isolator:{name}" not in claims:
            pytest.skip(f"the plugin does not claim `isolator:{name}`")
        lines, failure = shown[f"test_isolator[{name}]"]
        expected = _EFFECTS[name][1]
        if expected is None:
            assert lines == ["begun"], f"the limit was passed, or nothing ran: {lines}\n{failure}"
        else:
            assert lines[-1:] == [expected], f"{lines}\n{failure}"

    @pytest.mark.parametrize("name", _CONTROLS)
    def test_processor_isolator(self, pods: Pods, claims: frozenset[str], name: str) -> None:
        """The control group of the pod, or one below it, has the limit: a share of time has no quicker proof.

        It is one of the host, or what an app sees in /sys/fs/cgroup: the pod's own kernel may be the one that limits.
        """
        if f"isolator:{name}" not in claims:
            pytest.skip(f"the plugin does not claim `isolator:{name}`")
        show = f"cd /sys/fs/cgroup && grep '' {' '.join(_CONTROLS[name])} 2>/dev/null; echo ready; exec sleep 100"
        uuid = pods.start(show, *ASKING[f"isolator:{name}"][1])
        inside = {line.replace(":", "=", 1) for line in pods.logged(uuid, "ready").splitlines()}
        seen = inside | {f"{file}={value}" for file, value in _controls(uuid, _CONTROLS[name].keys())}
        wanted = {f"{file}={value}" for file, values in _CONTROLS[name].items() for value in values}
        assert seen & wanted, f"none of {sorted(wanted)} is in force, but {sorted(seen)}"

    @pytest.mark.parametrize("name", _OF_DISKS)
    def test_block_isolator(self, pods: Pods, claims: frozenset[str], name: str) -> None:
        """Likewise, of the disk that the pod's files are on."""
        if f"isolator:{name}" not in claims:
            pytest.skip(f"the plugin does not claim `isolator:{name}`")
        if whole_disk(pods.folder) is None or missing(Limits(io=(IoLimit("8:0", read_bps=1),))):
            pytest.skip("this host has no controller that throttles, or no disk below the tests")
        limit, files = _OF_DISKS[name]
        asked = {"name": f"resource/{name}", "value": {"default": True, "limit": limit}}

        def limited(pod: dict[str, Any]) -> None:
            pod["apps"][0]["app"].setdefault("isolators", []).append(asked)

        uuid = pods.start_manifest("echo ready; exec sleep 100", limited)
        pods.logged(uuid, "ready")
        seen = _controls(uuid, files.keys())
        assert any(files[file] in value.split() for file, value in seen), f"{files} is not in force, but {seen}"

    @pytest.mark.parametrize("name", _IN_MANIFEST)
    def test_isolator_of_a_manifest(self, shown: Mapping[str, Shown], claims: frozenset[str], name: str) -> None:
        """What can be asked for in a manifest only."""
        if f"isolator:{name}" not in claims:
            pytest.skip(f"the plugin does not claim `isolator:{name}`")
        lines, failure = shown[f"test_isolator_of_a_manifest[{name}]"]
        assert lines == [_IN_MANIFEST[name][3]], f"{lines}\n{failure}"

    def test_event_handlers(self, shown: Mapping[str, Shown], claims: frozenset[str]) -> None:
        """What the manifest has run before an app has run by then, in the app's place."""
        if "event-handlers" not in claims:
            pytest.skip("the plugin does not claim `event-handlers`")
        lines, failure = shown["test_event_handlers"]
        assert lines == ["first"], f"{lines}\n{failure}"

    def test_private_users(self, pods: Pods, claims: frozenset[str]) -> None:
        """Root of the pod is not root of the host."""
        if "private-users" not in claims:
            pytest.skip("the plugin does not claim `private-users`")
        mapped = pods.run("cat /proc/self/uid_map", pod=("--private-users",)).stdout.split()
        assert mapped[0] == "0" and mapped[1] != "0", mapped

    def test_readonly_rootfs(self, shown: Mapping[str, Shown], claims: frozenset[str]) -> None:
        """Nothing in the rootfs can be written."""
        if "readonly-rootfs" not in claims:
            pytest.skip("the plugin does not claim `readonly-rootfs`")
        lines, failure = shown["test_readonly_rootfs"]
        assert lines == ["refused"], f"{lines}\n{failure}"

    def test_rootfs_is_the_pod_s_own(self, pods: Pods, claims: frozenset[str]) -> None:
        """What one pod writes into its rootfs, the next does not find: the image's tree is shared, never written."""
        pods.run("echo x > /new")
        pods.run("ls /new 2>/dev/null && exit 1 || exit 0")

    def test_restart(self, pods: Pods, claims: frozenset[str]) -> None:
        """An app that fails is started again."""
        if "restart" not in claims:
            pytest.skip("the plugin does not claim `restart`")
        done = pods.run(
            "n=$(cat /n 2>/dev/null || echo 0); echo $((n+1)) > /n; test $n = 1 && echo again && exit 0; exit 1",
            *("--restart", "on-failure"),
        )
        assert done.stdout.splitlines()[-1:] == ["again"], done.stdout


def _controls(uuid: str, wanted: Collection[str]) -> list[tuple[str, str]]:
    """What files of these names hold, in the control groups of a pod and in those below."""
    return [
        (file, _read(os.path.join(folder, file)))
        for mount in cgroup_mounts()
        for folder, _, files in os.walk(mount)
        if uuid in folder
        for file in sorted(set(files) & set(wanted))
    ]


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8") as f:
            return f.read().strip()
    except OSError:
        return ""
