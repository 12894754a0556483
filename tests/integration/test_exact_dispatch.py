"""A pod belongs to the exact code that prepared it: real distributions, installed, upgraded, removed, damaged."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

import pytest

from support.command import Podium
from support.distributions import Venv
from support.sample import sample_code

Dist = Callable[..., str]


class Lab:
    """A venv with podium and the sample plugin, a data directory with an image, and the plugin's traces."""

    def __init__(self, podium: Podium, venv: Venv, dist: Dist, trace: str) -> None:
        self.venv = venv
        self.dist = dist
        self.podium = podium.using(venv.podium, SAMPLE_TRACE=trace)
        self._trace = trace

    def traces(self) -> list[str]:
        """What plugin code left since the last call."""
        if not os.path.exists(self._trace):
            return []
        with open(self._trace) as f:
            lines = f.read().splitlines()
        os.unlink(self._trace)
        return lines

    def install(self, version: str, **options: object) -> None:
        self.venv.install(self.dist("sample", version, sample_code(version, **options)))

    def prepare(self, *command: str) -> str:
        return self.podium("prepare", "--stage1", "sample", "box", "--", *(command or ("true",))).stdout.strip()

    def start(self, uuid: str) -> None:
        self.podium("run-prepared", "--detach", uuid)

    def gc(self, check: int = 0) -> dict:  # type: ignore[type-arg]
        import json

        return json.loads(self.podium("gc", "--grace-period", "0s", "--format", "json", check=check).stdout)


@pytest.fixture
def lab(
    podium: Podium, venv_with: Callable[..., Venv], plugin_dist: Dist, test_dir: str, busybox_oci: str
) -> Iterator[Lab]:
    made = Lab(podium, venv_with(), plugin_dist, os.path.join(test_dir, "trace"))
    made.install("1.0")
    made.podium("image", "import", busybox_oci, "--name", "box")
    yield made


def _full_life(lab: Lab, uuid: str) -> list[str]:
    lab.start(uuid)
    assert lab.podium("enter", uuid, "--", "sh", "-c", "echo inside; exit 4", check=4).stdout == "inside\n"
    lab.podium("stop", uuid)
    report = lab.gc()
    assert report["collected"] == [uuid]
    assert not lab.podium.pods()
    return [d["via"] for d in report["dispatch"]]


HOOKS = ["run", "enter", "stop", "gc"]


def test_installed_code_that_is_the_pin_is_used_in_place(lab: Lab) -> None:
    uuid = lab.prepare("sleep", "100")
    assert lab.traces() == ["prepare 1.0"]
    assert _full_life(lab, uuid) == ["installed"]
    assert lab.traces() == [f"{hook} 1.0" for hook in HOOKS]


def test_an_upgraded_plugin_leaves_old_pods_to_their_own_code(lab: Lab) -> None:
    uuid = lab.prepare("sleep", "100")
    lab.traces()
    lab.install("2.0")
    assert _full_life(lab, uuid) == ["pin"]
    assert lab.traces() == [f"{hook} 1.0" for hook in HOOKS]
    lab.prepare()
    assert lab.traces() == ["prepare 2.0"]
    lab.podium("gc", "--expire-prepared", "0s")


def test_an_uninstalled_plugin_still_serves_its_pods(lab: Lab) -> None:
    uuid = lab.prepare("sleep", "100")
    lab.traces()
    lab.venv.uninstall("sample")
    assert _full_life(lab, uuid) == ["pin"]
    assert lab.traces() == [f"{hook} 1.0" for hook in HOOKS]
    assert "no stage1 plugin 'sample'" in lab.podium("prepare", "--stage1", "sample", "box", check=3).stderr


def test_a_changed_core_leaves_old_pods_to_their_own_core(lab: Lab) -> None:
    uuid = lab.prepare("sleep", "100")
    lab.traces()
    # Incompatibly: today's plugins would find nothing that they import.
    lab.venv.patch("podium/sandbox/rootfs.py", "def assemble(", "def assemble_differently(")
    lab.venv.patch("podium/sandbox/control.py", "def release_cgroups(", "def release_differently(")
    assert _full_life(lab, uuid) == ["pin"]
    assert lab.traces() == [f"{hook} 1.0" for hook in HOOKS]


def test_a_damaged_pin_is_refused_for_run_and_collected_by_the_ledger(lab: Lab) -> None:
    uuid = lab.prepare()
    lab.traces()
    lab.install("2.0")
    (pin,) = {entry["stage1"]["pin"] for entry in lab.podium.pods().values()}
    file = os.path.join(lab.podium.dir, "stage1", pin, "lib", "sample", "__init__.py")
    os.chmod(file, 0o644)
    with open(file, "a") as f:
        f.write("# altered\n")
    refused = lab.podium("run-prepared", uuid, check=125).stderr
    assert "was altered" in refused and "sample" in refused and "1.0" in refused and pin in refused
    assert [p["state"] for p in lab.podium.pods().values()] == ["prepared"]
    report = lab.podium.json("gc", "--grace-period", "0s", "--expire-prepared", "0s")
    assert report["collected"] == [uuid]
    assert [d["via"] for d in report["dispatch"]] == ["ledger"]
    assert lab.traces() == []


def test_a_declared_compatible_version_serves_where_the_pin_is_gone(lab: Lab) -> None:
    uuid = lab.prepare("sleep", "100")
    lab.traces()
    lab.install("2.0", state=2, serves=((1, 1),))
    (pin,) = {entry["stage1"]["pin"] for entry in lab.podium.pods().values()}
    os.rename(os.path.join(lab.podium.dir, "stage1", pin), os.path.join(lab.podium.dir, "gone"))
    assert _full_life(lab, uuid) == ["compatible"]
    assert lab.traces() == [f"{hook} 2.0" for hook in HOOKS]


def test_a_revoked_digest_is_not_loaded_any_more(lab: Lab, test_dir: str) -> None:
    uuid = lab.prepare()
    lab.traces()
    (stage1,) = [entry["stage1"] for entry in lab.podium.pods().values()]
    with open(lab.podium.config, "a") as f:
        f.write(f'[stage1]\nrevoked = ["{stage1["digest"]}"]\n')
    try:
        assert "revoked" in lab.podium("run-prepared", uuid, check=125).stderr
        assert "revoked" in lab.podium("prepare", "--stage1", "sample", "box", check=5).stderr
        report = lab.podium.json("gc", "--grace-period", "0s", "--expire-prepared", "0s")
        assert [d["via"] for d in report["dispatch"]] == ["ledger"]
        assert lab.traces() == []
    finally:
        with open(lab.podium.config) as f:
            kept = f.read().split("[stage1]")[0]
        with open(lab.podium.config, "w") as f:
            f.write(kept)


_WRONG = {
    "specname": (
        "import os\n",
        "@hookimpl(specname='stage1_gc')\ndef other(pod, ledger):\n    leave('hostile')\n    return True\n",
    ),
    "wrapper": (
        "@hookimpl\ndef stage1_gc(pod, ledger):",
        "@hookimpl(wrapper=True)\ndef stage1_gc(pod, ledger):\n    yield\n    return True\ndef unused(pod, ledger):",
    ),
    "interface 99": ("state=1,", "state=1, interface=99,"),
    "default": ("def stage1_prepare(pod, ledger):", "def stage1_prepare(pod, ledger=None):"),
    "misspelt": ("def stage1_check():", "def stage1_chekc():"),
}


@pytest.mark.parametrize("kind", _WRONG)
def test_a_hostile_plugin_is_refused_by_name(lab: Lab, kind: str) -> None:
    old, new = _WRONG[kind]
    code = sample_code("3.0")
    assert old in code
    code = code + new if kind == "specname" else code.replace(old, new)
    lab.venv.install(lab.dist("sample", "3.0", code))
    refused = lab.podium("prepare", "--stage1", "sample", "box", check=5).stderr
    assert "'sample'" in refused
    assert kind.split()[-1] in refused or kind == "misspelt"
    assert lab.traces() == []
    assert not lab.podium.pods()
    listed = {p["name"]: p for p in lab.podium.json("stage1", "list")["plugins"]}
    assert listed["sample"]["problem"] and not listed["fly"]["problem"]


_FAILING = {
    "raises": ("raise RuntimeError('on purpose')", "RuntimeError: on purpose", 1),
    "crashes": ("os.kill(os.getpid(), 11)", "was killed by SIGSEGV before it answered", 1),
    "ends": ("os._exit(0)", "ended before it answered", 1),
    "returns None": ("return None", "stage1_prepare returned None", 5),
}


@pytest.mark.parametrize("how", _FAILING)
def test_a_failing_prepare_costs_one_pod(lab: Lab, how: str) -> None:
    body, message, code = _FAILING[how]
    broken = sample_code("3.0").replace('    leave("prepare")\n', f"    {body}\n")
    lab.venv.install(lab.dist("sample", "3.0", broken))
    failed = lab.podium("prepare", "--stage1", "sample", "box", "--", "true", check=code)
    assert message in failed.stderr and "'sample'" in failed.stderr
    lab.podium("gc", "--grace-period", "0s")
    assert not lab.podium.pods()


def test_a_hanging_plugin_is_cut_off_and_a_daemon_it_forked_is_not_waited_for(lab: Lab, test_dir: str) -> None:
    config = os.path.join(test_dir, "config.toml")
    with open(lab.podium.config) as f, open(config, "w") as g:
        g.write(f.read() + "[stage1]\nprepare-timeout = 1.0\n")
    lab.podium.config = config
    hang = sample_code("3.0").replace('    leave("prepare")\n', "    import time; time.sleep(60)\n")
    lab.venv.install(lab.dist("sample", "3.0", hang))
    assert "did not return within 1 s" in lab.podium("prepare", "--stage1", "sample", "box", check=1).stderr
    daemon = sample_code("4.0").replace(
        '    leave("prepare")\n',
        "    if os.fork() == 0:\n        os.setsid(); import time; time.sleep(3); os._exit(0)\n"
        "    print('to stdout')\n",
    )
    lab.venv.install(lab.dist("sample", "4.0", daemon))
    done = lab.podium("prepare", "--stage1", "sample", "box", "--", "true", timeout=2.5)
    assert done.stdout.count("\n") == 1, "what a plugin prints must not reach podium's own output"
    lab.podium("gc", "--grace-period", "0s", "--expire-prepared", "0s")


def test_two_distributions_with_one_plugin_name_are_refused(lab: Lab) -> None:
    lab.venv.install(lab.dist("other", "1.0", sample_code("9.9"), plugin="sample"))
    refused = lab.podium("prepare", "--stage1", "sample", "box", check=5).stderr
    assert "sample 1.0" in refused and "other 1.0" in refused
    assert lab.traces() == []


def test_a_builtin_name_cannot_be_taken(lab: Lab) -> None:
    lab.venv.install(lab.dist("other", "1.0", sample_code("9.9"), plugin="fly"))
    assert lab.podium("run", "--rm", "--stage1", "fly", "box", "--", "echo", "own").stdout == "own\n"
    assert lab.traces() == []
    listed = {p["name"]: p for p in lab.podium.json("stage1", "list")["plugins"]}
    assert listed["fly"]["ignored"] == ["other 1.0"]


@pytest.mark.parametrize("leaves", ["nothing", "a thread"])
def test_who_has_run_a_pod_releases_it_if_it_can(lab: Lab, leaves: str) -> None:
    """A thread keeps a process in the mount namespace of the pod; then another process releases the pod."""
    code = sample_code("1.1").replace('leave("run")', 'leave(f"run in {os.getpid()}")')
    mounts = "{os.readlink('/proc/self/ns/mnt')}"
    code = code.replace('leave("gc")', f'leave(f"gc in {{os.getpid()}} among {mounts}")')
    if leaves == "a thread":
        thread = "import threading, time; threading.Thread(target=time.sleep, args=(9,), daemon=True).start()"
        code = code.replace("mount.unshare_mounts()", f"mount.unshare_mounts()\n        {thread}")
    lab.venv.install(lab.dist("sample", "1.1", code))
    done = lab.podium("run", "--rm", "--stage1", "sample", "box", "--", "sh", "-c", "exit 5", check=5)
    assert done.stderr == "" and not lab.podium.pods()
    prepared, ran, released = lab.traces()
    pids = [words.split()[2] for words in (ran, released)]
    assert prepared == "prepare 1.1" and (pids[0] == pids[1]) is (leaves == "nothing")
    assert released.split()[4] == os.readlink("/proc/self/ns/mnt")
