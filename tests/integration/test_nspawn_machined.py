"""nspawn.register: pods that the real systemd-machined knows, on a real bus, in a mount namespace of the test's own."""

from __future__ import annotations

import os
import subprocess
import tomllib
from collections.abc import Iterator

import pytest

from podium_nspawn import machined
from podium_nspawn.command import arguments
from support import cleanup
from support.command import Podium
from support.fly import until

BUS = """<busconfig><type>system</type><listen>unix:path=/run/dbus/system_bus_socket</listen><auth>EXTERNAL</auth>
<policy context="default"><allow user="*"/><allow own="*"/><allow send_destination="*" eavesdrop="true"/>
<allow eavesdrop="true"/></policy></busconfig>
"""
# As on a host that systemd has booted, with the folder that nspawn wants left out.
HOST = (
    "mount -t tmpfs tmpfs /run && mkdir -p /run/systemd/system /run/systemd/machines /run/dbus && echo ready &&"
    "exec sleep 1000"
)


class Host:
    """A host with systemd, as far as it can be seen in /run: a bus, and machined if it is started.

    Attributes:
        podium: the command, run there.
        parent: the cgroup of the tests' pods; in no unit.
        unit: that of these pods.
    """

    def __init__(self, podium: Podium, folder: str, processes: list[subprocess.Popen[str]]) -> None:
        self._processes = processes
        self._folder = folder
        holder = self._start("unshare", "--mount", "sh", "-c", HOST)
        self._inside = ("nsenter", f"--mount=/proc/{holder.pid}/ns/mnt")
        script = os.path.join(folder, "podium-there")
        with open(script, "w", encoding="utf-8") as f:
            f.write(f'#!/bin/sh\nexec {" ".join(self._inside)} {podium.binary} "$@"\n')
        os.chmod(script, 0o755)
        self.podium = podium.using(script)
        with open(podium.config, "rb") as f:
            self.parent = tomllib.load(f)["cgroup"]["parent"]
        self.unit = f"{self.parent}.service"
        self.configure(self.unit)
        bus = os.path.join(folder, "bus.conf")
        with open(bus, "w", encoding="ascii") as f:
            f.write(BUS)
        self._start(*self._inside, "dbus-daemon", f"--config-file={bus}", "--nofork", "--nopidfile", "--print-address")

    def configure(self, parent: str) -> None:
        self.podium.config = os.path.join(self._folder, "registering.toml")
        with open(self.podium.config, "w", encoding="utf-8") as f:
            f.write(f'[cgroup]\nparent = "{parent}"\n[nspawn]\nregister = true\n')

    def start_machined(self) -> None:
        self._processes.append(subprocess.Popen([*self._inside, "/lib/systemd/systemd-machined"], text=True))
        until(lambda: self.machines() is not None, "machined is on the bus")

    def machines(self) -> list[str] | None:
        """Names that machined knows; None: it is not there."""
        words = ("machinectl", "list", "--no-legend", "--no-pager")
        done = subprocess.run([*self._inside, *words], capture_output=True, text=True, check=False)
        return [line.split()[0] for line in done.stdout.splitlines()] if done.returncode == 0 else None

    def _start(self, *argv: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        self._processes.append(process)
        assert process.stdout is not None and process.stdout.readline(), f"{argv} said nothing"
        return process


@pytest.fixture
def there(podium: Podium, test_dir: str, busybox_oci: str) -> Iterator[Host]:
    podium("image", "import", busybox_oci, "--name", "box")
    processes: list[subprocess.Popen[str]] = []
    host: Host | None = None
    try:
        yield (host := Host(podium, test_dir, processes))
    finally:
        if host is not None:
            cleanup.remove_cgroups(host.unit)  # the configured parent, which outlives its pods
        for process in reversed(processes):
            process.kill()
            process.wait()
            if process.stdout is not None:
                process.stdout.close()


def _log(podium: Podium, uuid: str) -> str:
    with open(os.path.join(podium.json("inspect", uuid)["path"], "plugin.log"), encoding="utf-8") as f:
        return f.read()


def _finding(podium: Podium) -> tuple[bool, str]:
    (checked,) = podium.json("stage1", "check", "nspawn")["plugins"]
    (found,) = [f for f in checked["findings"] if f["name"] == "machined"]
    assert checked["usable"] and not found["required"]
    return found["ok"], found["message"]


def test_machinectl_shows_a_pod_for_as_long_as_it_runs(there: Host) -> None:
    there.start_machined()
    assert _finding(there.podium)[0]
    uuid = there.podium.out("run", "-d", "--net", "none", "box", "--", "sleep", "1000")
    assert there.machines() == [f"podium-{uuid}"]
    pod = there.podium.json("status", uuid)["pod"]
    with open(f"/proc/{pod['leader']}/cgroup", encoding="ascii") as f:
        assert {line.split(":")[2].split("/")[1] for line in f.read().splitlines() if uuid in line} == {there.unit}
    there.podium("stop", uuid)
    assert there.machines() == []


def test_a_pod_runs_without_machined_and_its_log_says_why(there: Host) -> None:
    """A bus without machined; a cgroup that is in no unit, which costs no second attempt; no systemd at all."""
    uuid = there.podium.out("run", "-d", "--net", "none", "box", "--", "sh", "-c", "exit 7")
    assert there.podium.out("wait", uuid) == f"{uuid} 7"
    log = _log(there.podium, uuid)
    assert "once more, without systemd-machined" in log
    there.configure(there.parent)
    uuid = there.podium.out("run", "-d", "--net", "none", "box", "--", "sh", "-c", "exit 8")
    assert there.podium.out("wait", uuid) == f"{uuid} 8"
    log = _log(there.podium, uuid)
    assert f"cgroup {there.parent}/{uuid} is in no systemd unit" in log and "once more" not in log


def test_this_host_as_it_is(podium: Podium, busybox_oci: str, there: Host) -> None:
    ok, message = _finding(podium)
    assert ok == (not machined.lacking(there.unit)) and (ok or message == machined.lacking(there.unit))
    here = podium.using(podium.binary)
    here.config = there.podium.config
    uuid = here.out("run", "-d", "--net", "none", "box", "--", "sh", "-c", "exit 9")
    assert here.out("wait", uuid) == f"{uuid} 9"
    assert ok or f"not registered with systemd-machined: {message}" in _log(here, uuid)


@pytest.mark.parametrize(
    ("cgroup", "unit"),
    [
        ("podium/1-2", None),
        ("podium.service/1-2", "podium.service"),
        ("machine.slice/machine-a.slice/podium.scope/1-2", "podium.scope"),
        ("machine.slice/podium/x.service", None),
        ("machine.slice", None),
        (".service/1-2", None),
    ],
)
def test_the_unit_of_a_cgroup(cgroup: str, unit: str | None) -> None:
    assert machined.unit(cgroup) == unit


def test_the_command_line_registers_only_if_asked() -> None:
    from podium.types import Pod

    pod = Pod(uuid="6ae6144a-f3fe-42d5-9b38-2a4777105cad", name=None, dir="/p", data_root="/", apps=())
    plain, registered = arguments(pod, "/r"), arguments(pod, "/r", register=True)
    assert [word for word in registered if word not in plain] == ["--register=yes"]
    assert "--keep-unit" in registered and plain[-2:] == ["/usr/bin/busybox", "cat"]
