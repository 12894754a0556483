"""The Python API: the documented sample is run as it is; threads; errors are those of the command line."""

from __future__ import annotations

import json
import os
import subprocess

from support.command import Podium

DOC = os.path.join(os.path.dirname(__file__), "..", "..", "docs", "python-api.md")

THREADS = """
import sys
from concurrent.futures import ThreadPoolExecutor
from podium import Runtime
from podium.errors import NotFound, PodiumError
from podium.pods.request import AppRequest, PodRequest, RunOptions

runtime = Runtime(sys.argv[1], sys.argv[2])
runtime.import_image(sys.argv[3], name="box", exec=["/bin/true"])
request = PodRequest((AppRequest("box"),), stage1="fly", net=("host",))

def life(number):
    uuid = runtime.run(request, RunOptions(detach=True)).uuid
    assert runtime.wait(uuid, 60.0).runtime.exit_code == 0
    return uuid

with ThreadPoolExecutor(4) as pool:
    uuids = set(pool.map(life, range(4)))
assert len(uuids) == 4 and {pod.uuid for pod in runtime.list()} == uuids
try:
    runtime.status("0000")
except NotFound as e:
    assert isinstance(e, PodiumError) and e.reason == "not-found"
else:
    raise AssertionError("0000 is no pod")
assert set(runtime.gc(grace_period=0.0).collected) == uuids
for uuid in uuids:
    assert [e.kind for e in runtime.events(filters={"subject": uuid})] == [
        "pod-prepared", "pod-started", "app-exited", "pod-exited", "pod-marked", "pod-collected"
    ]
"""


def _python(podium: Podium, script: str, *args: str) -> str:
    python = os.path.join(os.path.dirname(podium.binary), "python")
    done = subprocess.run(
        [python, "-c", script, podium.dir, podium.config, *args],
        stdin=subprocess.DEVNULL,
        env=podium.environment(),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_documented_sample_runs(podium: Podium, busybox_rootfs: str) -> None:
    with open(DOC, encoding="utf-8") as f:
        sample = f.read().split("```python\n")[1].split("```")[0]
    _python(podium, f"import sys\n_, DIR, CONFIG, ROOTFS = sys.argv\n{sample}", busybox_rootfs)


SAME = """
import json, sys
from podium import Runtime

runtime = Runtime(sys.argv[1], sys.argv[2])
(pod,) = runtime.list()
status = runtime.status(pod.uuid[:8]).to_json(full=True)
print(json.dumps([[pod.to_json()], status, [e.to_json() for e in runtime.events()]]))
"""


def test_results_are_what_the_command_line_prints(podium: Podium, busybox_rootfs: str) -> None:
    podium("image", "import", busybox_rootfs, "--name", "box", "--exec", "/bin/sh")
    podium("run", "--stage1", "fly", "--net", "host", "--label", "a=b", "box", "--", "-c", "exit 3", check=3)
    listed, status, events = json.loads(_python(podium, SAME))
    assert listed == podium.json("list")["pods"]
    assert status == podium.json("status", listed[0]["uuid"])["pod"]
    assert events == [json.loads(line) for line in podium.out("events", "--format", "json").splitlines()]


def test_threads_run_pods_side_by_side(podium: Podium, busybox_rootfs: str) -> None:
    _python(podium, THREADS, busybox_rootfs)
