from __future__ import annotations

from decimal import ROUND_CEILING, Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from podium.appc import isolators
from podium.appc.fields import Field
from podium.appc.quantity import quantity
from podium.errors import BadInput


def parse(*pairs: tuple[str, Any]) -> tuple[isolators.Isolator, ...]:
    return isolators.parse_isolators(Field([{"name": n, "value": v} for n, v in pairs], "isolators"))


@pytest.mark.parametrize(
    ("text", "value"),
    [("0", 0), ("1", 1), ("64Mi", 64 << 20), ("1G", 10**9), ("1k", 1000), ("2K", 2000), ("1.5Ki", 1536), ("+5", 5)]
    + [("128974848", 128974848), ("125952Ki", 128974848), ("123Mi", 128974848), ("1e3", 1000), ("1E3", 1000)]
    + [("2E", 2 * 10**18), ("1Ei", 1 << 60), (".5k", 500), ("5.", 5), ("0.0001", 1), ("500m", 1), ("12e-1", 2)]
    + [("9223372036854775807", 2**63 - 1), ("0.1Ki", 103)],
)
def test_appc_quantity_good(text: str, value: int) -> None:
    assert quantity(text) == value


@pytest.mark.parametrize(
    ("text", "value"), [("500m", 500), ("2", 2000), ("0.3", 300), ("300m", 300), ("1k", 10**6), ("0.0001", 1), ("0", 0)]
)
def test_appc_quantity_in_thousandths(text: str, value: int) -> None:
    assert quantity(text, milli=True) == value


@pytest.mark.parametrize(
    "text",
    ["", "-1", "x", "1X", "1KiB", "1 G", "1.2.3", ".", "G", "1e", "1e+", "1e+-5", "1e99999999", "9223372036854775808"]
    + ["8Ei", "١", "1" * 65, "0x10", "1_000", "inf", "NaN", "1mi", "1e9999"],
)
def test_appc_quantity_bad(text: str) -> None:
    with pytest.raises(ValueError):
        quantity(text)


@given(
    st.integers(0, 10**6),
    st.integers(0, 999),
    st.sampled_from([("", Decimal(1)), ("m", Decimal("0.001")), ("M", Decimal(10**6)), ("Gi", Decimal(1 << 30))]),
)
def test_appc_quantity_is_exact(whole: int, thousandths: int, suffix: tuple[str, Decimal]) -> None:
    text = f"{whole}.{thousandths:03}"
    wanted = (Decimal(text) * suffix[1]).to_integral_value(ROUND_CEILING)
    assert quantity(text + suffix[0]) == wanted


GOOD: list[tuple[str, Any, Any]] = [
    ("resource/memory", {"request": "1G", "limit": "2G"}, isolators.Resource(10**9, 2 * 10**9)),
    ("resource/memory", {"limit": 4096, "default": False}, isolators.Resource(None, 4096)),
    ("resource/cpu", {"request": "250m", "limit": "500m"}, isolators.Resource(250, 500)),
    ("resource/cpu", {"limit": 1.5}, isolators.Resource(None, 1500)),
    ("resource/block-bandwidth", {"default": True, "limit": "2M"}, isolators.Limit(2 * 10**6)),
    ("resource/block-iops", {"default": True, "limit": "1000"}, isolators.Limit(1000)),
    ("resource/network-bandwidth", {"default": True, "limit": "1G"}, isolators.Limit(10**9)),
    ("os/linux/cpu-shares", 2, isolators.Number(2)),
    ("os/linux/oom-score-adj", -1000, isolators.Number(-1000)),
    ("os/linux/no-new-privileges", True, isolators.Flag(True)),
    ("os/linux/capabilities-retain-set", {"set": ["CAP_CHOWN"]}, isolators.CapabilitySet(True, ("CAP_CHOWN",))),
    ("os/linux/capabilities-retain-set", {"set": []}, isolators.CapabilitySet(True, ())),
    ("os/linux/capabilities-remove-set", {"set": ["CAP_MKNOD"]}, isolators.CapabilitySet(False, ("CAP_MKNOD",))),
    ("os/linux/capabilities-revoke-set", {"set": ["CAP_MKNOD"]}, isolators.CapabilitySet(False, ("CAP_MKNOD",))),
    ("os/linux/seccomp-retain-set", {"set": ["@appc.io/all"]}, isolators.SeccompSet(True, ("@appc.io/all",), "")),
    (
        "os/linux/seccomp-remove-set",
        {"errno": "ENOTSUP", "set": ["reboot", "reboot"]},
        isolators.SeccompSet(False, ("reboot",), "ENOTSUP"),
    ),
    ("os/unix/sysctl", {"net.ipv4.tcp_mtu_probing": "1"}, isolators.Sysctls({"net.ipv4.tcp_mtu_probing": "1"})),
    ("podium/pids", {"limit": 64}, isolators.Limit(64)),
    ("podium/rlimits", {"NOFILE": {"soft": 10, "hard": -1}}, isolators.Rlimits({"NOFILE": (10, -1)})),
    ("podium/masked-paths", {"set": ["/proc/kcore"]}, isolators.Paths(("/proc/kcore",))),
    ("podium/readonly-paths", {"set": ["/proc/sys"]}, isolators.Paths(("/proc/sys",))),
    ("os/linux/selinux-context", {"user": "u"}, isolators.Unknown("os/linux/selinux-context")),
    ("example.com/else", None, isolators.Unknown("example.com/else")),
]


@pytest.mark.parametrize(("name", "raw", "value"), GOOD)
def test_appc_isolator_good(name: str, raw: Any, value: Any) -> None:
    (found,) = parse((name, raw))
    assert found == isolators.Isolator(name, value, raw)
    assert found.to_json() == {"name": name, "value": raw}


def test_appc_isolator_of_an_option() -> None:
    assert isolators.make("resource/memory", {"limit": "1K"}, "--memory").value == isolators.Resource(None, 1000)
    assert isolators.make("a/b", 1, "--isolator").value == isolators.Unknown("a/b")
    with pytest.raises(BadInput, match=r"^--memory\.limit: 'lots' is no quantity"):
        isolators.make("resource/memory", {"limit": "lots"}, "--memory")


def test_appc_isolator_table_covers_all_known() -> None:
    assert {name for name, _, _ in GOOD} >= isolators.KNOWN


@pytest.mark.parametrize(
    ("name", "raw", "message"),
    [
        ("resource/memory", {}, "isolators[0].value: has neither"),
        ("resource/memory", {"limit": "1X"}, "isolators[0].value.limit: '1X' is no quantity"),
        ("resource/memory", {"limit": True}, "isolators[0].value.limit: must be a text"),
        ("resource/memory", {"limit": "1G", "default": True}, "default must be false"),
        ("resource/memory", {"limit": "1G", "request": "2G"}, "request is larger"),
        ("resource/memory", None, "isolators[0].value: is missing"),
        ("resource/cpu", {"limit": -1}, "no quantity"),
        ("resource/cpu", {"limit": 10**400}, "no quantity"),
        ("resource/block-iops", {"limit": "1"}, "default must be true"),
        ("resource/block-bandwidth", {"default": True}, "limit: is missing"),
        ("resource/network-bandwidth", {"default": True, "limit": "1", "request": "1"}, "request is not supported"),
        ("os/linux/cpu-shares", 1, "from 2 to 262144"),
        ("os/linux/cpu-shares", "1024", "must be a whole number, is a text"),
        ("os/linux/oom-score-adj", 1001, "from -1000 to 1000"),
        ("os/linux/oom-score-adj", True, "whole number, is a boolean"),
        ("os/linux/no-new-privileges", "true", "must be a boolean"),
        ("os/linux/capabilities-retain-set", {"set": ["chown"]}, "value.set[0]: 'chown' is no capability"),
        ("os/linux/capabilities-retain-set", {"set": "CAP_CHOWN"}, "must be a list"),
        ("os/linux/capabilities-retain-set", {}, "value.set: is missing"),
        ("os/linux/seccomp-retain-set", {"set": []}, "must not be empty"),
        ("os/linux/seccomp-retain-set", {"set": ["a b"]}, "is no system call"),
        ("os/linux/seccomp-remove-set", {"set": ["a"], "errno": "eperm"}, "is no error code"),
        ("os/linux/seccomp-remove-set", {"set": ["a"], "errno": "PERM"}, "is no error code"),
        ("os/unix/sysctl", {"net..x": "1"}, "no kernel parameter"),
        ("os/unix/sysctl", {"../../etc/passwd": "1"}, "no kernel parameter"),
        ("os/unix/sysctl", {"net.x": 1}, "value.net.x: must be a text"),
        ("os/unix/sysctl", {"net.x": "1\n2"}, "line break"),
        ("podium/pids", {"limit": 0}, "from 1 to"),
        ("podium/rlimits", {"FILES": {"soft": 1, "hard": 1}}, "no resource limit"),
        ("podium/rlimits", {"NOFILE": {"soft": 2, "hard": 1}}, "above the hard limit"),
        ("podium/rlimits", {"NOFILE": {"soft": -1, "hard": 1}}, "above the hard limit"),
        ("podium/rlimits", {"NOFILE": {"soft": 1}}, "NOFILE.hard: is missing"),
        ("podium/masked-paths", {"set": ["proc"]}, "absolute path"),
        ("Foo", {}, "isolators[0].name: 'Foo' is not an AC identifier"),
    ],
)
def test_appc_isolator_bad(name: str, raw: Any, message: str) -> None:
    with pytest.raises(BadInput) as e:
        parse((name, raw))
    assert message in e.value.message


CAPS, CALLS = {"set": ["CAP_CHOWN"]}, {"set": ["read"]}


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (("os/linux/capabilities-retain-set", CAPS), ("os/linux/capabilities-remove-set", CAPS)),
        (("os/linux/capabilities-revoke-set", CAPS), ("os/linux/capabilities-retain-set", CAPS)),
        (("os/linux/capabilities-revoke-set", CAPS), ("os/linux/capabilities-remove-set", CAPS)),
        (("os/linux/seccomp-remove-set", CALLS), ("os/linux/seccomp-retain-set", CALLS)),
        (("os/linux/seccomp-remove-set", CALLS), ("os/linux/seccomp-remove-set", CALLS)),
        (("resource/memory", {"limit": "1"}), ("resource/memory", {"limit": "2"})),
    ],
)
def test_appc_isolators_that_exclude_each_other(first: tuple[str, Any], second: tuple[str, Any]) -> None:
    with pytest.raises(BadInput, match=r"^isolators\[1\]: "):
        parse(first, second)


def test_appc_unknown_isolators_may_be_there_twice() -> None:
    assert len(parse(("a/b", 1), ("a/b", 2))) == 2


def test_appc_isolators_combine_into_what_a_stage1_is_given() -> None:
    chosen = {name: (name, raw) for name, raw, _ in GOOD if "retain" not in name and "revoke" not in name}
    found = isolators.combine(parse(*chosen.values()))
    assert (found.memory_limit, found.memory_request) == (4096, None)
    assert (found.cpu_limit, found.cpu_request, found.cpu_shares) == (1500, None, 2)
    assert (found.block_bandwidth, found.block_iops, found.pids) == (2 * 10**6, 1000, 64)
    assert found.caps_remove == ("CAP_MKNOD",)
    assert found.caps_retain is None
    assert found.seccomp is not None
    assert (found.seccomp.mode, found.seccomp.names, found.seccomp.errno) == ("remove", ("reboot",), "ENOTSUP")
    assert (found.oom_score_adj, found.no_new_privileges) == (-1000, True)
    assert found.rlimits == {"NOFILE": (10, -1)}
    assert found.sysctls == {"net.ipv4.tcp_mtu_probing": "1"}
    assert (found.masked_paths, found.readonly_paths) == (("/proc/kcore",), ("/proc/sys",))
    assert found.unknown == ("resource/network-bandwidth", "os/linux/selinux-context", "example.com/else")
