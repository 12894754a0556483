"""Faults that others had when they collected: each made on real resources."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator

import pytest

from podium.clock import rfc3339, since_boot
from podium.linux import cgroup, hierarchies, mount, procs
from podium.pods.status import Runtime
from support import damage
from support.command import Podium
from support.disk import Disk, from_another_boot, hold, sleeper
from support.distributions import Venv
from support.sample import sample_code
from support.snapshot import Scope

NOW = ("gc", "--grace-period", "0s")
YEARS = 10 * 365 * 86400.0
ANOTHER_BOOT = "00000000-0000-0000-0000-000000000000"

# What is put at the start of the sample plugin's gc hook.
MISBEHAVE = """
    how = os.environ.get("SAMPLE_GC")
    if how == "exit":
        os._exit(1)
    elif how == "segfault":
        os.kill(os.getpid(), 11)
    elif how == "hang":
        import time
        time.sleep(1000)
    elif how == "raise":
        raise RuntimeError("the plugin's own trouble")
    elif how == "crash over " + pod.uuid:
        os.kill(os.getpid(), 11)
    elif how == "lie":
        for resource in ledger.outstanding():
            ledger.released(resource.number)
        return True
"""


@pytest.fixture
def sample(
    data_dir: str,
    config_file: str,
    test_dir: str,
    scope: Scope,
    venv_with: Callable[..., Venv],
    plugin_dist: Callable[..., str],
    busybox_rootfs: str,
) -> Podium:
    """podium with a plugin whose gc hook does what SAMPLE_GC says, limited to 2 seconds."""
    code = sample_code("1.0").replace('    leave("gc")\n', MISBEHAVE + '    leave("gc")\n')
    venv = venv_with(plugin_dist("sample", "1.0", code))
    config = os.path.join(test_dir, "config.toml")
    with open(config_file, encoding="utf-8") as f, open(config, "w", encoding="utf-8") as out:
        out.write(f.read() + "[stage1]\ngc-timeout = 2.0\n")
    podium = Podium(data_dir, config, scope, venv.podium, {"SAMPLE_TRACE": os.path.join(test_dir, "trace")})
    podium("image", "import", busybox_rootfs, "--name", "busybox", "--exec", "/bin/true")
    return podium


def run_sample(podium: Podium) -> tuple[str, str]:
    """A pod that ran under the sample plugin: its uuid and its folder."""
    podium("run", "--stage1", "sample", "--net", "host", "busybox")
    (uuid,) = podium.pods()
    return uuid, os.path.join(podium.dir, "pods/run", uuid)


def listing(folder: str) -> list[str]:
    return sorted(os.path.join(at, name) for at, folders, files in os.walk(folder) for name in (*folders, *files))


def populate(path: str, pid: int) -> None:
    cgroup.enter(path, pid)
    while pid not in cgroup.procs(path):
        time.sleep(0.01)


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ("exit", "plugin-crashed"),
        ("segfault", "plugin-crashed"),
        ("hang", "plugin-timeout"),
        ("raise", "plugin-raised"),
    ],
)
def test_02_a_failed_collection_keeps_the_pod(sample: Podium, how: str, reason: str) -> None:
    uuid, folder = run_sample(sample)
    before = [path.removeprefix(folder) for path in listing(folder)]
    failing = sample.using(sample.binary, SAMPLE_GC=how)
    for attempts in (1, 2):
        (failure,) = failing.json(*NOW, check=6)["failed"]
        assert (failure["uuid"], failure["reason"], failure["attempts"]) == (uuid, reason, attempts)
    pod = sample.pods()[uuid]
    assert pod["state"] == "gc-failed" and pod["problem"]["reason"] == reason
    folder = os.path.join(sample.dir, "pods/exited-garbage", uuid)
    assert [path.removeprefix(folder) for path in listing(folder) if not path.endswith("/gc-failed.json")] == before
    assert sample.json(*NOW)["collected"] == [uuid] and sample.pods() == {}


def test_02_a_crash_over_one_pod_is_not_blamed_on_others(sample: Podium) -> None:
    uuids = []
    for _ in range(5):
        uuids.append(sample.out("prepare", "--stage1", "sample", "--net", "host", "busybox"))
        sample("run-prepared", uuids[-1])
    culprit = sorted(uuids)[1]
    report = sample.using(sample.binary, SAMPLE_GC=f"crash over {culprit}").json(*NOW, check=6)
    assert [(f["uuid"], f["reason"]) for f in report["failed"]] == [(culprit, "plugin-crashed")]
    assert set(report["collected"]) == {*uuids} - {culprit}
    assert sample.json(*NOW)["collected"] == [culprit]


def test_05_a_reboot_between_exit_and_collection(disk: Disk, outside: str) -> None:
    folder = disk.pod()
    uuid = os.path.basename(folder)
    lease = os.path.join(outside, f"lease-{uuid}")
    with open(lease, "w", encoding="ascii"), sleeper() as stranger:
        identity = procs.identify(stranger.pid)
        assert identity is not None
        hold(folder, "path", lease)
        hold(folder, "cgroup", disk.cgroup(uuid))
        hold(folder, "netns", f"/run/podium/netns/{uuid}")
        hold(folder, "mount", os.path.join(folder, "stage1/rootfs"), mount_id=7)
        hold(folder, "process", str(stranger.pid), **{**identity.to_json(), "boot_id": ANOTHER_BOOT})
        from_another_boot(folder)
        report = disk.collect()
        assert report.collected == [uuid] and stranger.poll() is None
    # What outlives a reboot is released, what does not is gone with it.
    assert [(r.kind, r.id) for r in report.released] == [("path", lease)] and os.listdir(outside) == []


def test_08_a_mount_in_another_namespace_does_not_keep_the_pod(disk: Disk) -> None:
    folder = disk.pod()
    target = os.path.join(folder, "stage1", "held")
    os.mkdir(target)
    script = f"mount -t tmpfs held {target} && echo done && exec sleep 1000"
    command = ["unshare", "-m", "sh", "-c", script]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True) as holder:
        try:
            assert holder.stdout is not None and holder.stdout.readline() == "done\n"
            assert any(entry.source == "held" for entry in mount.read_mountinfo(holder.pid))
            assert disk.collect().collected == [os.path.basename(folder)]
            assert not any(entry.source == "held" for entry in mount.read_mountinfo(holder.pid))
            assert holder.poll() is None
        finally:
            holder.kill()


def test_09_deletion_never_goes_through_a_bind_mount(disk: Disk, outside: str) -> None:
    folder = disk.pod("exited-garbage")
    sentinel = os.path.join(outside, "sentinel")
    with open(sentinel, "w", encoding="ascii") as f:
        f.write("precious")
    target = os.path.join(folder, "stage1", "volume")
    os.mkdir(target)
    mount.bind(outside, target)
    before = listing(folder)
    with subprocess.Popen(["sleep", "1000"], cwd=target) as holder:  # so it can't be unmounted
        try:
            (failure,) = disk.collect().failed
            assert failure.reason == "in-use" and target in failure.message and str(holder.pid) in failure.message
            assert [path for path in listing(folder) if not path.endswith(("/gc-failed.json", "/events"))] == before
        finally:
            holder.kill()
    assert disk.collect().collected == [os.path.basename(folder)]
    with open(sentinel, encoding="ascii") as f:
        assert f.read() == "precious"


def test_12_nested_cgroups_with_processes_left(disk: Disk) -> None:
    folder = disk.pod("exited-garbage")
    path = disk.cgroup(os.path.basename(folder))
    hold(folder, "cgroup", path)
    nested = [f"{path}/app/{'/'.join('abc'[: depth + 1])}" for depth in range(3)]
    with sleeper() as first, sleeper("setsid", "sleep", "1000") as second:
        for place, process in zip(nested[1:], (first, second), strict=True):
            cgroup.create(place)
            populate(place, process.pid)
        report = disk.collect()
        assert report.failed == [] and first.wait(10) == second.wait(10) == -signal.SIGKILL
    assert not any(os.path.exists(each) for each in hierarchies.current().folders(path))
    cgroup.create(path)  # the name is free at once
    cgroup.remove(path)


def test_15_one_winner_for_each_pod(podium: Podium, disk: Disk) -> None:
    uuids = [os.path.basename(disk.pod()) for _ in range(40)]
    collecting = [podium.start(*NOW) for _ in range(4)]
    removing = [podium.start("rm", *uuids[start::2]) for start in (0, 1)]
    printed = []
    for process in (*collecting, *removing):
        out, err = process.communicate(timeout=120)
        assert "Traceback" not in err
        if process in collecting:
            assert process.returncode == 0, err
            printed += out.split()
        else:  # some were gone before it was their turn
            told = [line for line in err.splitlines() if not line.startswith("  hint:")]
            assert all(line.startswith("podium: no pod ") for line in told), err
    assert len(printed) == len(set(printed)) and set(printed) <= set(uuids)
    assert podium.pods() == {} and disk.uuids() == set()


def test_15_a_prepared_pod_runs_or_is_collected(podium: Podium, busybox_rootfs: str) -> None:
    podium("image", "import", busybox_rootfs, "--name", "busybox", "--exec", "/bin/true")
    uuids = [podium.out("prepare", "--stage1", "fly", "--net", "host", "busybox") for _ in range(4)]
    running = {uuid: podium.start("run-prepared", uuid) for uuid in uuids}
    collecting = [podium.start("gc", "--expire-prepared", "0s", "--grace-period", "1h") for _ in range(2)]
    told = [(process.communicate(timeout=120), process.returncode) for process in collecting]
    ran = {uuid: (process.communicate(timeout=120)[1], process.returncode) for uuid, process in running.items()}
    collected = [uuid for (out, _), _ in told for uuid in out.split()]
    assert [code for _, code in told] == [0, 0] and len(collected) == len(set(collected))
    for uuid, (err, code) in ran.items():
        assert code == (125 if uuid in collected else 0) and "Traceback" not in err, err
    assert set(podium.pods()) == set(uuids) - set(collected)


@pytest.fixture(params=["tmpfs", "ext4"])
def full_disk(request: pytest.FixtureRequest, data_dir: str, host_guard: object) -> Iterator[Callable[[], None]]:
    """The data directory is a small file system; the function fills it to the last byte."""
    os.mkdir(data_dir)
    if request.param == "tmpfs":
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=32m,mode=755", "small", data_dir], check=True)
    else:
        image = data_dir + ".img"
        with open(image, "wb") as f:
            f.truncate(32 << 20)
        subprocess.run(["mkfs.ext4", "-q", "-m", "0", image], check=True)
        subprocess.run(["mount", "-o", "loop", image, data_dir], check=True)

    def fill() -> None:
        fd = os.open(os.path.join(data_dir, "ballast"), os.O_WRONLY | os.O_CREAT)
        for size in (1 << 20, 4096, 1):
            try:
                while True:
                    os.write(fd, b"x" * size)
            except OSError:
                pass
        os.fsync(fd)
        os.close(fd)
        assert os.statvfs(data_dir).f_bavail == 0

    yield fill
    subprocess.run(["umount", data_dir], check=True)


def test_28_gc_and_rm_succeed_on_a_full_disk(
    full_disk: Callable[[], None], podium: Podium, busybox_rootfs: str
) -> None:
    podium("image", "import", busybox_rootfs, "--name", "busybox", "--exec", "/bin/true")
    ended = [podium.out("prepare", "--stage1", "fly", "--net", "host", "busybox") for _ in range(3)]
    for uuid in ended:
        podium("run-prepared", uuid)
    killed = podium.out(
        "run", "-d", "--stage1", "fly", "--net", "host", "busybox", "--exec", "/bin/sleep", "--", "1000"
    )
    os.kill(podium.json("status", killed)["pod"]["pid"], signal.SIGKILL)
    podium("wait", killed, check=None)
    full_disk()
    podium("rm", ended[0])
    report = podium.json(*NOW)
    assert set(report["collected"]) == {killed, *ended[1:]} and podium.pods() == {}


def test_42_an_exit_code_is_known_though_the_disk_is_full(
    full_disk: Callable[[], None], podium: Podium, busybox_rootfs: str
) -> None:
    podium("image", "import", busybox_rootfs, "--name", "busybox", "--exec", "/bin/sh")
    script = "trap 'exit 7' TERM; while :; do sleep 0.05; done"
    uuid = podium.out("run", "-d", "--stage1", "fly", "--net", "host", "busybox", "--", "-c", script)
    full_disk()
    podium("stop", uuid)
    pod = podium.json("status", uuid)["pod"]
    assert (pod["state"], pod["exit_code"], pod["problem"]) == ("exited", 7, None)
    assert (pod["apps"][0]["state"], pod["apps"][0]["exit_code"]) == ("exited", 7)
    assert pod["finished"] and pod["apps"][0]["finished"]
    podium("rm", uuid)


def test_30_a_process_that_got_the_pid_is_left_alone(disk: Disk) -> None:
    with sleeper() as stranger:
        identity = procs.identify(stranger.pid)
        assert identity is not None
        for other in (
            identity._replace(start_time=identity.start_time - 1),
            identity._replace(boot_id=ANOTHER_BOOT),
        ):
            folder = disk.pod(runtime=Runtime(supervisor=other, leader=other, cgroup="podium/none", started=rfc3339()))
            hold(folder, "process", str(other.pid), **other.to_json())
        report = disk.collect()
        assert len(report.collected) == 2 and report.released == [] and stranger.poll() is None


@pytest.mark.parametrize("shift", [-YEARS, YEARS])
def test_32_the_clock_jumps(disk: Disk, shift: float) -> None:
    """A pod that ended 100 s ago, by a clock that was set by ten years since."""
    wall = rfc3339(time.time() - 100 + shift)
    folder = disk.pod("exited-garbage")
    uuid = os.path.basename(folder)
    from podium.pods.status import write_runtime

    write_runtime(folder, disk.ended(uuid, finished=wall, finished_boottime=since_boot() - 100))
    assert disk.collect(grace_period=200.0).kept and disk.collect(grace_period=50.0).collected == [uuid]


def test_32_the_clock_was_ahead_in_another_boot_or_when_nobody_saw_the_end(disk: Disk) -> None:
    future = rfc3339(time.time() + YEARS)
    before = os.path.basename(disk.pod(runtime=Runtime(finished=future, finished_boottime=5.0, boot=ANOTHER_BOOT)))
    # It is as old as this boot at least.
    assert [k.uuid for k in disk.collect(grace_period=since_boot() + 1000).kept] == [before]
    assert disk.collect(grace_period=since_boot() - 1).collected == [before]
    unseen = os.path.basename(disk.pod(runtime=Runtime(started=future)))
    assert [k.uuid for k in disk.collect(grace_period=1.0).kept] == [unseen]
    time.sleep(1.0)
    assert disk.collect(grace_period=1.0).collected == [unseen]


def test_32_a_pod_prepared_in_the_future_expires(disk: Disk) -> None:
    uuid = os.path.basename(disk.pod("prepared", ran=False, created=rfc3339(time.time() + YEARS)))
    assert disk.collect(expire_prepared=1.0).collected == []
    time.sleep(1.0)
    assert disk.collect(expire_prepared=1.0).collected == [uuid]


def test_32_a_pod_prepared_in_this_boot_does_not_expire_by_the_clock(podium: Podium, busybox_rootfs: str) -> None:
    """The envelope says when by the clock that nobody sets; one of an older podium has the wall clock alone."""
    podium("image", "import", busybox_rootfs, "--name", "busybox", "--exec", "/bin/true")
    uuid = podium.out("prepare", "--stage1", "fly", "--net", "host", "busybox")
    path = os.path.join(podium.dir, "pods", "prepared", uuid, "envelope.json")
    damage.resealed(lambda record: record.update(created=rfc3339(time.time() - YEARS)))(path)
    assert podium.json("gc", "--expire-prepared", "1h")["collected"] == []
    damage.resealed(lambda record: [record.pop(f"created_{name}") for name in ("boot", "boottime")])(path)
    assert podium.json("gc", "--expire-prepared", "1h")["collected"] == [uuid]


def test_39_a_folder_that_is_hard_to_delete(disk: Disk, outside: str) -> None:
    folder = disk.pod()
    stage1 = os.path.join(folder, "stage1")
    sentinel = os.path.join(outside, "sentinel")
    with open(sentinel, "w", encoding="ascii"):
        pass
    os.chmod(sentinel, 0o600)
    fd = os.open(stage1, os.O_RDONLY)
    for _ in range(5000):
        os.mkdir("d", dir_fd=fd)
        inner = os.open("d", os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = inner
    os.close(fd)
    for name in (b"new\nline", b"\xff\xfe", b"-rf", b" "):
        with open(os.path.join(os.fsencode(stage1), name), "wb"):
            pass
    os.mkfifo(os.path.join(stage1, "fifo"))
    os.mknod(os.path.join(stage1, "null"), 0o20666, os.makedev(1, 3))
    os.symlink(outside, os.path.join(stage1, "to-folder"))
    os.symlink(sentinel, os.path.join(stage1, "to-file"))
    os.link(sentinel, os.path.join(stage1, "hard-link"))
    os.makedirs(os.path.join(stage1, "closed", "inner"), mode=0)
    immutable = os.path.join(stage1, "closed", "immutable")
    with open(immutable, "w", encoding="ascii"):
        pass
    subprocess.run(["chattr", "+i", immutable], check=True)
    subprocess.run(["chattr", "+a", os.path.join(stage1, "closed")], check=True)
    assert disk.collect().failed == [] and disk.uuids() == set()
    assert os.listdir(outside) == ["sentinel"] and os.stat(sentinel).st_mode & 0o777 == 0o600


def test_43_gc_does_not_take_the_plugins_word(sample: Podium, outside: str) -> None:
    uuid, folder = run_sample(sample)
    secrets = os.path.join(folder, "stage1", "secrets")
    os.mkdir(secrets)
    mount.mount("tmpfs", secrets, "tmpfs")
    hold(folder, "mount", secrets)
    kept = os.path.join(outside, f"run-{uuid}")
    os.mkdir(kept)
    hold(folder, "path", kept)
    lying = sample.using(sample.binary, SAMPLE_GC="lie")
    with subprocess.Popen(["sleep", "1000"], cwd=secrets) as holder:
        try:
            for _ in range(2):
                (failure,) = lying.json(*NOW, check=6)["failed"]
                assert failure["reason"] == "in-use" and str(holder.pid) in failure["message"]
        finally:
            holder.kill()
    report = lying.json(*NOW)
    assert report["collected"] == [uuid] and {r["by"] for r in report["released"]} == {"ledger"}
    assert os.listdir(outside) == [] and not any(uuid in entry.target for entry in mount.read_mountinfo())
