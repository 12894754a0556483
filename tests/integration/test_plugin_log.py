"""plugin.log, of bounded size: whoever prints there, in whichever hook."""

from __future__ import annotations

import os
import signal
import subprocess

import pytest

from podium.sandbox.plugin_log import MAX_BYTES
from support import altered
from support.command import Podium
from support.fly import until

FLOOD = 'import subprocess; subprocess.run(["sh", "-c", "echo first; yes {0} | head -c 3000000; echo last {0} >&2"])'
_TALKS = {
    "    volumes.check_sources(pod)\n": f"    volumes.check_sources(pod)\n    {FLOOD.format('prepare')}\n",
    # What a process prints that outlives the hook, while the supervisor is woken now and then, as by an app's output.
    "    return supervisor.run_apps": (
        "    import subprocess\n"
        '    child = subprocess.Popen(["sh", "-c", "while sleep 0.01; do yes run | head -c 90000; done"])\n'
        "    supervisor.facts(child=child.pid)\n    return supervisor.run_apps"
    ),
    "    return control.release_cgroups": (
        f'    {FLOOD.format("gc")}\n    if os.path.exists(pod.data_root + "-fail"):\n'
        '        raise RuntimeError("told to")\n    return control.release_cgroups'
    ),
}


@pytest.fixture
def talks(podium: Podium, test_dir: str, busybox_rootfs: str) -> Podium:
    """podium with a plugin that prints more than is kept."""
    site = os.path.join(test_dir, "site")
    altered.install(site, "talks", _TALKS)
    using = podium.using(podium.binary, PYTHONPATH=site)
    using("image", "import", busybox_rootfs, "--name", "box", "--exec", "/bin/sh")
    return using


def _kept(podium: Podium, uuid: str) -> dict[str, bytes]:
    folder = podium.json("inspect", uuid)["path"]
    kept = {}
    for name in os.listdir(folder):
        if name.startswith("plugin.log"):
            with open(os.path.join(folder, name), "rb") as f:
                kept[name] = f.read()
    return kept


def test_what_a_plugin_prints_is_bounded(talks: Podium, test_dir: str) -> None:
    uuid = talks.out(
        "prepare", "--stage1", "talks", "--net", "host", "box", "--", "-c", "while sleep 0.1; do echo; done"
    )
    kept = _kept(talks, uuid)
    assert len(kept["plugin.log"]) == 0 and len(kept["plugin.log.1"]) == MAX_BYTES
    assert kept["plugin.log.1"].endswith(b"prepare\nlast prepare\n")
    talks("run-prepared", "--detach", uuid)
    until(lambda: b"run\nrun\n" in _kept(talks, uuid)["plugin.log.1"], "what the run printed has been put aside")
    for _ in range(20):
        assert sum(map(len, _kept(talks, uuid).values())) < 3 * MAX_BYTES
    os.kill(talks.json("status", uuid)["pod"]["facts"]["child"], signal.SIGKILL)
    talks("stop", "--force", uuid)
    with open(f"{talks.dir}-fail", "w", encoding="ascii"):
        pass
    for attempt in range(2):
        talks("gc", "--grace-period", "0s", check=6)
        kept = _kept(talks, uuid)
        assert len(kept["plugin.log"]) == 0 and len(kept["plugin.log.1"]) == MAX_BYTES, attempt
        assert b"last gc\nTraceback" in kept["plugin.log.1"] and kept["plugin.log.1"].endswith(
            b"RuntimeError: told to\n"
        )
    os.unlink(f"{talks.dir}-fail")
    talks("gc", "--grace-period", "0s")
    assert talks.pods() == {}


def test_a_log_that_somebody_else_made_is_left_alone(talks: Podium, test_dir: str) -> None:
    """A link in its place leads nowhere, and keeps no pod from being collected."""
    uuid = talks.out("prepare", "--stage1", "talks", "--net", "host", "box", "--", "-c", "exit 0")
    folder, other = talks.json("inspect", uuid)["path"], os.path.join(test_dir, "other")
    with open(other, "wb") as f:
        f.truncate(2 * MAX_BYTES)
    os.unlink(os.path.join(folder, "plugin.log"))
    os.symlink(other, os.path.join(folder, "plugin.log"))
    talks("gc", "--grace-period", "0s", "--expire-prepared", "0s")
    assert talks.pods() == {} and os.path.getsize(other) == 2 * MAX_BYTES


_PUMPS = """
import subprocess, sys
from select import select
from podium.sandbox import plugin_log

plugin_log.become(sys.argv[1])
pump = plugin_log.PluginPump()
command = ["sh", "-c", "yes run | head -c 5000000; echo last >&2"]
child = subprocess.Popen(command, stdout=pump.app_end, stderr=pump.app_end)
pump.started()
while pump.fileno() >= 0:
    select([pump], [], [])
    pump.pump()
sys.exit(child.wait())
"""


def test_a_pump_bounds_what_a_process_prints(test_dir: str, podium: Podium) -> None:
    python = os.path.join(os.path.dirname(podium.binary), "python")
    subprocess.run([python, "-c", _PUMPS, test_dir], check=True, env=podium.environment())
    kept = {}
    for name in ("plugin.log", "plugin.log.1"):
        with open(os.path.join(test_dir, name), "rb") as f:
            kept[name] = f.read()
    assert kept["plugin.log"].endswith(b"run\nlast\n") and len(kept["plugin.log"]) <= MAX_BYTES
    assert len(kept["plugin.log.1"]) == MAX_BYTES and set(kept["plugin.log.1"]) == set(b"run\n")
