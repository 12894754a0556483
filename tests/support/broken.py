"""Stage1 plugins that break one rule each: variants of the one that `podium stage1 new` writes."""

from __future__ import annotations

from typing import NamedTuple

from support import altered

_RUN = "    return supervisor.run_apps(Sandbox(pod))\n"
_STOP = "    return control.stop(pod, request)\n"
_GC = "    return control.release_cgroups(pod, ledger)\n"
_ENTER = "        return control.enter(pod, request, fds)\n"
_CLAIMS = 'sandbox.CAPABILITIES | {"apps", "network:host"}\n'
_MOUNTED = "        self.pod = pod\n"
_PREPARED = "        confine.check(app)\n    volumes.check_sources(pod)\n"
_OVERLAYS = "    overlays = [rootfs.prepare(pod, app) for app in pod.apps]\n"


class Broken(NamedTuple):
    """A variant: the check that it must fail, the text that it replaces in the plugin, and by what."""

    check: str
    old: str
    new: str


def _code(check: str, expression: str) -> Broken:
    """Returns another exit code than the pod's, `code`."""
    return Broken(check, _RUN, f"    code = supervisor.run_apps(Sandbox(pod))\n    return {expression}\n")


def _apps(check: str, changes: str) -> Broken:
    """Runs apps `a` other than those that were asked for."""
    changed = f"    supervisor._pod = pod.replace(apps=tuple(a.replace({changes}) for a in pod.apps))\n"
    return Broken(check, _RUN, changed + _RUN)


def _drops(name: str, changes: str, check: str = "test_isolator") -> Broken:
    return _apps(f"{check}[{name}]", f"isolators=a.isolators.replace({changes})")


def _confined(name: str, changes: str) -> Broken:
    """Mounts for apps that ask for less."""
    changed = f"tuple(a.replace(isolators=a.isolators.replace({changes})) for a in pod.apps)"
    replaced = f"        pod = pod.replace(apps={changed})\n{_MOUNTED}"
    return Broken(f"test_isolator_of_a_manifest[{name}]", _MOUNTED, replaced)


def _claims(check: str, name: str) -> Broken:
    """Claims what it does not do."""
    return Broken(check, _CLAIMS, f'sandbox.CAPABILITIES | {{"apps", "network:host", "{name}"}}\n')


def _volumes(check: str, which: str, changes: str) -> Broken:
    """Has volumes other than those that were asked for."""
    replaced = f"{{n: v.replace({changes}) if {which} else v for n, v in pod.volumes.items()}}"
    return Broken(check, _MOUNTED, f"        pod = pod.replace(volumes={replaced})\n{_MOUNTED}")


def _leaves(kind: str, code: str) -> Broken:
    """Takes something when a pod is stopped, and never gives it back."""
    lines = "".join(f"    {line}\n" for line in ("import subprocess", *code.splitlines()))
    return Broken(f"test_nothing_is_left[{kind}]", _STOP, lines + _STOP)


def _gc(check: str, code: str) -> Broken:
    return Broken(check, _GC, "".join(f"    {line}\n" for line in code.splitlines()) + _GC)


BROKEN = {
    # hooks
    "default": Broken("test_hooks_are_as_specified", "def stage1_check()", "def stage1_check(more: int = 1)"),
    "missing": Broken("test_hooks_are_as_specified", "@hookimpl\ndef stage1_stop", "def stage1_stop"),
    "specname": Broken(
        "test_hooks_are_as_specified",
        "@hookimpl\ndef stage1_stop",
        '@hookimpl(specname="stage1_stop")\ndef stage1_halt',
    ),
    "wrapper": Broken(
        "test_hooks_are_as_specified", "@hookimpl\ndef stage1_gc", "@hookimpl(wrapper=True)\ndef stage1_gc"
    ),
    "unknown": Broken(
        "test_info_is_known_and_steady", _CLAIMS, 'sandbox.CAPABILITIES | {"apps", "network:host", "x"}\n'
    ),
    "hintless": Broken(
        "test_check_says_what_to_do",
        "    return common_findings()\n",
        '    return [*common_findings(), Finding(name="moon", ok=False, required=False)]\n',
    ),
    "lenient": Broken(
        "test_what_is_not_claimed_is_refused",
        _CLAIMS,
        f"{_CLAIMS}from podium.stage1.calling import Loaded\nLoaded.refuse_unsupported = lambda self, asked: None\n",
    ),
    # life
    "always-7": _code("test_exit_code_is_the_app_s", "code if code != 7 else 0"),
    "one-stream": Broken(
        "test_streams_are_the_caller_s",
        _RUN,
        "    if s := supervisor._options.stdio:\n"
        f"        supervisor._options = supervisor._options._replace(stdio=(s[0], s[1], s[1]))\n{_RUN}",
    ),
    "signal-1": _code("test_death_by_signal_is_128_and_more", "code if code != 137 else 1"),
    "deaf": Broken(
        "test_signals_reach_the_app",
        _STOP,
        f"    if request.signal is not None and request.app is None:\n        return True\n{_STOP}",
    ),
    "all-ears": Broken(
        "test_a_signal_reaches_one_app_alone", _STOP, f"    request = request.replace(app=None)\n{_STOP}"
    ),
    "brutal": Broken(
        "test_stop_asks_before_it_kills",
        _STOP,
        f"    if request.signal is None:\n        request = request.replace(force=True)\n{_STOP}",
    ),
    "gentle": Broken(
        "test_stop_by_force_kills", _STOP, f'    if request.force:\n        raise RuntimeError("never")\n{_STOP}'
    ),
    "unreturning": Broken(
        "test_a_pod_that_ran_for_a_while",
        "    def root(self, app: App)",
        "    def handed_on(self, keep: Any) -> Any:\n        return {}\n\n"
        "    @classmethod\n    def taken_over(cls, pod: Pod, record: Any) -> Any:\n        return cls(None)\n\n"
        "    def root(self, app: App)",
    ),
    "stops-once": Broken("test_stop_is_idempotent", _STOP, f"    control.running(pod, pod.apps[0].name)\n{_STOP}"),
    "collects-once": _gc(
        "test_gc_is_idempotent",
        # Of one process only: after a gc that was killed the next one does it.
        'collected = os.environ.get("COLLECTED", "")\nif pod.uuid in collected:\n'
        '    raise RuntimeError("again?")\nos.environ["COLLECTED"] = f"{collected} {pod.uuid}"',
    ),
    "never-ran": _gc(
        "test_gc_of_a_pod_that_never_ran",
        'if pod.apps[0].exec[-1:] == ("exit 11",):\n    os.stat(f"{pod.dir}/runtime.json")',
    ),
    "hangs": Broken(
        "test_hooks_return_in_time",
        _PREPARED,
        f"        while os.path.exists(rootfs.folder(pod, app)):\n            pass\n{_PREPARED}",
    ),
    "no-notify": _apps("test_notify", "notify=False"),
    "one-rootfs": Broken(
        "test_several_apps",
        "rootfs.path(self.pod, app)",
        'rootfs.path(self.pod, self.pod.apps[0] if app.name == "b" else app)',  # others share a pod with many checks
    ),
    # enter
    "enters-with-0": Broken(
        "test_enter_runs_beside_the_app",
        _ENTER,
        "        code = control.enter(pod, request, fds)\n        return code if code != 9 else 0\n",
    ),
    "enters-beyond-the-end": Broken(
        "test_enter_ends_with_the_app",
        _ENTER,
        "        code = control.enter(pod, request, fds)\n        return code if code != 137 else 1\n",
    ),
    "enters-as-root": Broken(
        "test_enter_has_the_app_s_restrictions",
        _ENTER,
        "        from podium.sandbox import launch\n        read = launch.read\n"
        f"        launch.read = lambda *args: read(*args)._replace(uid=0)\n{_ENTER}",
    ),
    "no-terminal": Broken(
        "test_enter_gives_a_terminal",
        _ENTER,
        "        if request.tty:\n            request = request.replace(tty=False, stdio=(0, 1, 2))\n" + _ENTER,
    ),
    "enters-unclaimed": Broken(
        "test_enter_is_refused_if_not_claimed", _CLAIMS, f'(sandbox.CAPABILITIES - {{"enter", "tty"}}) | {_CLAIMS[23:]}'
    ),
    # isolators and other confinement
    "drops-capabilities": _drops("capabilities", "caps_retain=None"),
    "drops-no-new-privileges": _drops("no-new-privileges", "no_new_privileges=False"),
    "drops-seccomp": _drops("seccomp", "seccomp=None"),
    "drops-oom-score-adj": _drops("oom-score-adj", "oom_score_adj=None"),
    "drops-rlimits": _drops("rlimits", "rlimits={}"),
    "drops-pids": _drops("pids", "pids=None"),
    "drops-memory": _drops("memory", "memory_limit=None"),
    "drops-cpu": _drops("cpu", "cpu_limit=None", "test_processor_isolator"),
    "drops-cpu-shares": _drops("cpu-shares", "cpu_shares=None", "test_processor_isolator"),
    "drops-block-bandwidth": _drops("block-bandwidth", "block_bandwidth=None", "test_block_isolator"),
    "drops-block-iops": _drops("block-iops", "block_iops=None", "test_block_isolator"),
    "drops-restart": _apps("test_restart", 'restart="no"'),
    "writable": Broken(
        "test_readonly_rootfs",
        _MOUNTED,
        f"        pod = pod.replace(apps=tuple(a.replace(readonly_rootfs=False) for a in pod.apps))\n{_MOUNTED}",
    ),
    "shared-rootfs": Broken(
        "test_rootfs_is_the_pod_s_own",
        _OVERLAYS,
        f"{_OVERLAYS}    for app in pod.apps:\n"
        '        shared, upper = f"{pod.data_root}/cache/{app.name}", f"{rootfs.folder(pod, app)}/upper"\n'
        "        os.makedirs(shared, exist_ok=True)\n        if not os.path.islink(upper):\n"
        "            os.rmdir(upper)\n            os.symlink(shared, upper)\n",
    ),
    "shows-masked": _confined("masked-paths", "masked_paths=()"),
    "writes-readonly": _confined("readonly-paths", "readonly_paths=()"),
    "drops-handlers": _apps("test_event_handlers", "pre_start=()"),
    "no-sysctl": _claims("test_isolator_of_a_manifest[sysctl]", "isolator:sysctl"),
    "no-private-users": _claims("test_private_users", "private-users"),
    "no-dns": _claims("test_dns", "dns"),
    "no-hostname": Broken("test_hostname", _CLAIMS, 'sandbox.CAPABILITIES | {"apps", "network:host", "hostname"}\n'),
    "no-network": Broken(
        "test_network", _RUN, f"    import ctypes\n    ctypes.CDLL(None).unshare(0x40000000)  # CLONE_NEWNET\n{_RUN}"
    ),
    "no-cni": _claims("test_network_of_cni", "network:cni"),
    "no-ports": Broken(
        "test_ports",
        f"{_CLAIMS}@AND@{_RUN}",
        'sandbox.CAPABILITIES | {"apps", "network:host", "network:cni", "ports"}\n@AND@'
        "    from podium.net import plan\n    read = plan.read\n"
        "    plan.read = lambda folder: (found := read(folder)) and found._replace(ports=[])\n"
        "    network = supervisor.network()\n    apps = Sandbox(pod)\n"
        '    apps.namespaces = {"net": network.netns_fd} if network else {}\n    return supervisor.run_apps(apps)\n',
    ),
    # volumes
    "host-volume": _volumes("test_volume[host]", 'v.kind == "host" and not v.read_only', 'kind="empty", mode=0o700'),
    "empty-volume": _volumes("test_volume[empty]", 'v.kind == "empty"', "mode=0o755"),
    "tmpfs-volume": _volumes("test_volume[tmpfs]", 'v.kind == "tmpfs"', "mode=0o755"),
    "writable-volume": _volumes("test_volume_that_is_read_only", "v.read_only", "read_only=False"),
    # what is left
    "leaves-mount": _leaves(
        "mount",
        'place = f"{pod.data_root}-{pod.uuid}"\nif not os.path.exists(place):\n'
        '    os.mkdir(place)\n    mount.mount("none", place, "tmpfs")',
    ),
    "leaves-netns": _leaves("netns", 'subprocess.run(["ip", "netns", "add", f"x-{pod.uuid}"])'),
    "leaves-link": _leaves(
        "link",
        'name = f"x-{pod.uuid[:8]}"\nsubprocess.run(["ip", "link", "add", name, "type", "bridge"])\n'
        'subprocess.run(["ip", "link", "set", name, "alias", pod.data_root])',  # by which the suite takes it away
    ),
    "leaves-cgroup": _leaves("cgroup", 'from podium.linux import cgroup\ncgroup.create(pod.cgroup + "-x")'),
    "leaves-loop": _leaves(
        "loop",
        'disk = f"{pod.data_root}-{pod.uuid}"\nif not os.path.exists(disk):\n    with open(disk, "wb") as f:\n'
        '        f.truncate(1 << 20)\n    subprocess.run(["losetup", "--find", disk])',
    ),
    "leaves-file": _leaves(
        "file", 'os.makedirs("/run/podium", exist_ok=True)\nopen(f"/run/podium/x-{pod.uuid}", "w").close()'
    ),
    "leaves-process": _leaves(
        "process", 'subprocess.Popen(["sleep", "1000"], cwd=pod.data_root, start_new_session=True)'
    ),
    "leaves-descriptor": _gc("test_no_descriptor_is_left", 'os.open("/dev/null", os.O_RDONLY)'),
    "lends-descriptor": Broken(
        "test_app_has_no_descriptor_of_podium_s",
        _RUN,
        "    from podium.linux import syscalls\n    syscalls.close_range = lambda *args: None\n"
        f'    os.set_inheritable(os.dup2(os.open("/etc", os.O_RDONLY), 50), True)\n{_RUN}',
    ),
    "no-ledger": Broken(
        "test_gc_after_a_kill_at_every_point",
        _RUN,
        '    from podium.linux import cgroup\n    cgroup.create(pod.cgroup + "-x")\n'
        "    try:\n        return supervisor.run_apps(Sandbox(pod))\n    finally:\n"
        '        cgroup.remove(pod.cgroup + "-x")\n',
    ),
    "no-reboot": Broken(
        "test_gc_after_a_reboot",
        f"{_RUN}@AND@{_GC}",
        '    with supervisor.ledger.take("path", f"/run/x-{pod.uuid}"):\n'
        '        open(f"/run/x-{pod.uuid}", "w").close()\n'
        f'    open(f"{{pod.stage1_dir}}/ran", "w").close()\n{_RUN}'
        f'@AND@    if os.path.exists(f"{{pod.stage1_dir}}/ran"):\n        os.stat(f"/run/x-{{pod.uuid}}")\n{_GC}',
    ),
    # records
    "serves-not": Broken(
        "test_older_pods",
        f"version=VERSION,@AND@{_RUN}",
        "version=VERSION, serves=((0, 7),),@AND@    import json\n"
        '    with open(f"{pod.dir}/envelope.json") as f:\n        assert json.load(f)["stage1"]["state"] != 7\n'
        f"{_RUN}",
    ),
    "needs-manifest": _gc("test_gc_needs_no_manifest", "pod.apps[0].exec[0]"),
}


def install(folder: str, variant: str) -> str:
    """Write the variant as an installed distribution into `folder`, to be on PYTHONPATH; returns the plugin's name."""
    name = f"broken-{variant}"
    broken = BROKEN[variant]
    altered.install(folder, name, dict(zip(_parts(broken.old), _parts(broken.new), strict=True)))
    return name


def _parts(text: str) -> list[str]:
    """Several replacements are between @AND@."""
    first, _, second = text.partition("@AND@")
    return [first, second] if second or "@AND@" in text else [first]
