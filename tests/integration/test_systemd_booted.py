"""Units under a systemd that really boots: started, ready, stopped, their exit codes and journal; podium-gc.timer.

With PODIUM_TEST_FULL=1 only: the root file system takes two minutes to make (once), and a boot some seconds.
"""

from __future__ import annotations

import os
import sys

import pytest

from support import booted

pytestmark = pytest.mark.skipif(
    os.environ.get("PODIUM_TEST_FULL") != "1", reason="boots a Debian: PODIUM_TEST_FULL=1 does"
)
SCRIPT = r"""
units=/etc/systemd/system
show() { systemctl show "$1" --property=ActiveState,SubState,Type,Result,ExecMainStatus; }
ended() { for i in $(seq 100); do systemctl is-active --quiet "$1" || return 0; sleep 0.1; done; return 1; }

say import podium image import /box --name box --exec /bin/sh
podium generate systemd --stage1 fly --net host --name web --restart no box -- \
    -c 'echo "hello $0"; echo oops >&2; exec sleep 1000' "a b" > $units/web.service
podium generate systemd --stage1 nspawn --net none --restart no box -- -c 'sleep 1; exit 7' > $units/seven.service
podium generate systemd --stage1 fly --net host --restart on-failure box -- \
    -c 'echo again >> /count; exit 1' > $units/again.service
uuid=$(podium prepare --stage1 fly --net host --name once box -- -c 'echo only once')
podium generate systemd once > $units/once.service
mkdir $units/web.service.d $units/once.service.d  # systemd forgets how a service ended well that nothing refers to
for unit in web once; do
    printf '[Service]\nExecStopPost=/bin/sh -c "echo ended: $EXIT_CODE $EXIT_STATUS $SERVICE_RESULT"\n' \
        > $units/$unit.service.d/told.conf
done
systemctl daemon-reload
say web-start systemctl start web
say web-up show web
say web-pod podium list --format json
say web-stop systemctl stop web
say web-down show web
say web-journal journalctl --unit web --output cat --no-pager
say web-gone podium list
say seven-start systemctl start seven
say seven-ended ended seven
say seven-down show seven
say once-start systemctl start once
ended once
say once-journal journalctl --unit once --output cat --no-pager
say once-again systemctl start once
systemctl start again
for i in $(seq 100); do test "$(systemctl show again --property=NRestarts --value)" -ge 2 && break; sleep 0.1; done
say again-restarts systemctl show again --property=NRestarts --value
systemctl stop again

cp /contrib/* $units
mkdir -p $units/podium-gc.timer.d $units/podium-gc.service.d
printf '[Timer]\nOnActiveSec=1s\nAccuracySec=100ms\nRandomizedDelaySec=0\n' > $units/podium-gc.timer.d/soon.conf
printf '[Service]\nExecStart=\nExecStart=/usr/local/bin/podium gc --grace-period 0s\n' \
    > $units/podium-gc.service.d/now.conf
systemctl daemon-reload
say timer systemctl enable --now podium-gc.timer
for i in $(seq 100); do
    test "$(systemctl show podium-gc --property=ExecMainExitTimestampMonotonic --value)" != 0 && break
    sleep 0.1
done
say gc-done show podium-gc
say timer-waits systemctl list-timers podium-gc.timer --no-legend --no-pager
say gone podium list --format json

mkdir -p /etc/podium
printf '[cgroup]\nparent = "system.slice/podium.service"\n[nspawn]\nregister = true\n' > /etc/podium/config.toml
printf '[Service]\nType=oneshot\nRemainAfterExit=yes\nDelegate=yes\nExecStart=/bin/true\n' > $units/podium.service
systemctl daemon-reload
say host podium stage1 check nspawn
for round in first second; do
    systemctl start podium
    uuid=$(podium run --detach --net none --name $round box -- -c 'exec sleep 1000')
    say $round-uuid echo $uuid
    say $round-log cat /var/lib/podium/pods/run/$uuid/plugin.log
    say $round-list machinectl list --no-legend --no-pager
    say $round-machine machinectl show podium-$uuid --property=Class --property=Unit --property=State
    systemctl daemon-reload
    say $round-enter podium enter $round -- id -u
    say $round-stop podium stop $round
    say $round-left machinectl list --no-legend --no-pager
done
"""


def _shown(text: str) -> dict[str, str]:
    return dict(line.split("=", 1) for line in text.splitlines())


def _registered(said: dict[str, tuple[int, str]]) -> None:
    """machinectl shows a pod while it runs; its unit is the one that has podium's cgroups, whatever systemd does."""
    assert "ok      machined: pods can be registered" in said["host"][1]
    for name in ("first", "second"):
        uuid = said[f"{name}-uuid"][1].strip()
        assert said[f"{name}-log"] == (0, "")
        assert said[f"{name}-list"][1].split()[:3] == [f"podium-{uuid}", "container", "systemd-nspawn"]
        shown = _shown(said[f"{name}-machine"][1])
        assert shown == {"Class": "container", "Unit": "podium.service", "State": "running"}
        assert said[f"{name}-enter"] == (0, "0\n") and said[f"{name}-stop"] == (0, f"{uuid}\n")
        assert said[f"{name}-left"] == (0, "")


@pytest.mark.skipif(sys.version_info[:2] != (3, 11), reason="the compiled libraries are those of Debian's Python 3.11")
def test_units_under_a_systemd_that_boots(host_guard: object, session_dir: str, test_dir: str) -> None:
    parent = f"podium-test-{os.getpid()}"
    said = booted.run(booted.make(test_dir), SCRIPT, parent)
    assert said["import"][0] == 0, said["import"]

    assert said["web-start"] == (0, "")
    up, down = _shown(said["web-up"][1]), _shown(said["web-down"][1])
    assert (up["ActiveState"], up["SubState"], up["Type"]) == ("active", "running", "notify")
    assert '"name":"web"' in said["web-pod"][1].replace(" ", "") and "running" in said["web-pod"][1]
    assert (down["ActiveState"], down["Result"]) == ("inactive", "success")
    journal = said["web-journal"][1].splitlines()
    assert "hello a b" in journal and "oops" in journal and "ended: exited 143 success" in journal
    assert "web" not in said["web-gone"][1]

    assert said["seven-start"][0] == 0 and said["seven-ended"][0] == 0
    down = _shown(said["seven-down"][1])
    assert (down["ActiveState"], down["Result"], down["ExecMainStatus"]) == ("failed", "exit-code", "7")

    journal = said["once-journal"][1].splitlines()
    assert "only once" in journal and "ended: exited 0 success" in journal
    assert said["once-again"][0] != 0  # a prepared pod runs once
    assert int(said["again-restarts"][1]) >= 2

    assert said["timer"][0] == 0
    done = _shown(said["gc-done"][1])
    assert (done["Result"], done["ExecMainStatus"]) == ("success", "0")
    assert "podium-gc.timer" in said["timer-waits"][1] and '"pods":[]' in said["gone"][1].replace(" ", "")
    _registered(said)
