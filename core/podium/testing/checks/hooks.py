"""Hooks as specified, what `info` and `check` say, and what is not claimed."""

from __future__ import annotations

from typing import Any, ClassVar

from podium.testing.command import Podium
from podium.testing.pods import Pods

ISOLATORS = (
    *("memory", "cpu", "cpu-shares", "pids", "block-bandwidth", "block-iops", "capabilities", "no-new-privileges"),
    *("seccomp", "oom-score-adj", "rlimits", "sysctl", "masked-paths", "readonly-paths"),
)
_KNOWN = frozenset(
    (
        *("apps", "enter", "tty", "private-users", "restart", "readonly-rootfs", "event-handlers", "ports"),
        *("notify", "hostname", "dns", "network:host", "network:none", "network:cni"),
        *("volume:host", "volume:empty", "volume:tmpfs"),
        *(f"isolator:{name}" for name in ISOLATORS),
    )
)
# How a pod asks for a capability: pod options and app options.
ASKING: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "private-users": (("--private-users",), ()),
    "restart": ((), ("--restart", "always")),
    "readonly-rootfs": ((), ("--readonly-rootfs",)),
    "hostname": (("--hostname", "inside"), ()),
    "dns": (("--dns", "192.0.2.1"), ()),
    "network:host": (("--net", "host"), ()),
    "network:none": (("--net", "none"), ()),
    "network:cni": (("--net", "default"), ()),
    "volume:host": (("--volume", "v,kind=host,source=/etc"), ("--mount", "volume=v,target=/v")),
    "volume:empty": (("--volume", "v,kind=empty"), ("--mount", "volume=v,target=/v")),
    "volume:tmpfs": (("--volume", "v,kind=tmpfs"), ("--mount", "volume=v,target=/v")),
    "isolator:memory": ((), ("--memory", "64M")),
    "isolator:cpu": ((), ("--cpu", "500m")),
    "isolator:cpu-shares": ((), ("--cpu-shares", "512")),
    "isolator:pids": ((), ("--pids", "16")),
    "isolator:capabilities": ((), ("--caps-retain", "CAP_NET_RAW")),
    "isolator:no-new-privileges": ((), ("--no-new-privileges",)),
    "isolator:seccomp": ((), ("--seccomp", "mode=remove,mkdir,mkdirat")),
    "notify": ((), ("--notify",)),
    "isolator:oom-score-adj": ((), ("--oom-score-adj", "500")),
    "isolator:rlimits": ((), ("--rlimit", "NOFILE=77:77")),
}


class HookChecks:
    """See the package."""

    plugin: ClassVar[str]

    def test_hooks_are_as_specified(self, info: dict[str, Any]) -> None:
        """All hooks are there, take no defaults, no `specname`, are no wrappers; podium would refuse them otherwise."""
        assert not info["problem"], info["problem"]["message"]

    def test_info_is_known_and_steady(self, podium: Podium, claims: frozenset[str], info: dict[str, Any]) -> None:
        """`info` names capabilities that exist, a version, and says the same each time."""
        unknown = claims - _KNOWN
        assert not unknown, f"info claims capabilities that podium does not know: {sorted(unknown)}"
        assert info["version"], "info has no version"
        (again,) = podium.json("stage1", "call", self.plugin, "info")["calls"]
        changed = [key for key, value in again["result"].items() if key != "pid" and value != info[key]]
        assert not changed, f"info says something else the second time: {changed}"

    def test_check_says_what_to_do(self, podium: Podium, claims: frozenset[str]) -> None:
        """`check` finds something, and what it finds lacking comes with a hint."""
        (checked,) = podium.json("stage1", "check", self.plugin, check=None)["plugins"]
        assert checked["findings"], "check found nothing, not even that all is well"
        for finding in checked["findings"]:
            assert finding["name"], f"a finding has no name: {finding}"
            assert finding["ok"] or finding["hint"], f"{finding['name']} is lacking, and there is no hint how to get it"

    def test_what_is_not_claimed_is_refused(self, pods: Pods, claims: frozenset[str]) -> None:
        """Each capability that `info` does not claim is refused by name, before anything is made."""
        for name, (pod, app) in ASKING.items():
            if name not in claims:
                options = () if name.startswith("network:") else pods.options
                shell = ("--exec", "/bin/true")
                refused = pods.podium("prepare", "--stage1", self.plugin, *options, *pod, "box", *app, *shell, check=2)
                assert name in refused.stderr, f"{name} was asked for and refused for something else: {refused.stderr}"
        if "apps" not in claims:
            two = ("box", "--name", "a", "--exec", "/bin/true", "---", "box", "--name", "b", "--exec", "/bin/true")
            refused = pods.podium("prepare", "--stage1", self.plugin, *pods.options, *two, check=2)
            assert "several apps" in refused.stderr, refused.stderr
        assert pods.uuids() == [], "a pod that was refused is there"
