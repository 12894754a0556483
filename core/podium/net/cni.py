"""One call of a CNI plugin: the exec protocol of the CNI specification, versions 0.3.1 to 1.1.0, section 2."""

from __future__ import annotations

import os

from podium.errors import Failed, HostLacks
from podium.quickjson import dumps

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

TIMEOUT = 60.0  # seconds that a plugin may take
BUILT_IN = "podium-bridge"  # podium.net.bridge, which is called like a plugin
_MAX_OUTPUT = 1 << 20
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def find(type: str, folders: Sequence[str]) -> str | None:
    """Path of the plugin of that type; None: no folder has it."""
    for folder in folders:
        path = os.path.join(folder, type)
        if os.access(path, os.X_OK) and os.path.isfile(path):
            return path
    return None


def call(
    command: str, config: Mapping[str, Any], env: Mapping[str, str], folders: Sequence[str], cgroup: str | None = None
) -> dict[str, Any]:
    """Run the plugin that `config` names and wait for it.

    Args:
        command: ADD, DEL, CHECK, GC or VERSION.
        config: what it reads: one plugin's configuration with name, cniVersion and prevResult.
        env: its CNI_… variables, but for CNI_COMMAND and CNI_PATH.
        folders: where plugins are.
        cgroup: it runs there, so that it ends with the pod; None: in the caller's.

    Returns:
        What it printed; empty if that was nothing.

    Raises:
        HostLacks: no folder has the plugin.
        Failed: it failed, was killed, took too long, or printed no JSON object where it had to.
    """
    type = str(config["type"])
    path = type if type == BUILT_IN else find(type, folders)
    if path is None:
        raise HostLacks(
            f"the CNI plugin {type!r} is in none of {', '.join(folders)}",
            hint="apt-get install containernetworking-plugins",
            subject=type,
        )
    variables = {"PATH": _PATH, **env, "CNI_COMMAND": command, "CNI_PATH": ":".join(folders)}
    code, text = _execute(path, dumps(dict(config)).encode(), variables, cgroup)
    what = f"the CNI plugin {type!r} failed to {command} (network {config.get('name')!r})"
    if code is None:
        raise Failed(f"{what}: it took longer than {TIMEOUT:g} s", subject=type)
    answer = _parse(text)
    if code != 0 or (answer and "code" in answer and "msg" in answer):
        said = f"{answer.get('msg')} {answer.get('details') or ''}".strip() if answer else ""
        how = f"killed by signal {-code}" if code < 0 else f"exit code {code}"
        raise Failed(f"{what}: {said or text.strip()[:300] or how}", subject=type)
    if answer is None and (command == "ADD" or text.strip()):
        raise Failed(f"{what}: it printed no JSON object: {text.strip()[:100]!r}", subject=type)
    return answer or {}


def _parse(text: str) -> dict[str, Any] | None:
    import json

    try:
        answer = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return answer if isinstance(answer, dict) else None


def _execute(path: str, given: bytes, env: Mapping[str, str], cgroup: str | None) -> tuple[int | None, str]:
    """Exit code (negative: a signal; None: it took too long) and output. Memory files need nobody to pump them."""
    import select

    stdin, stdout = os.memfd_create("cni-in"), os.memfd_create("cni-out")
    try:
        os.write(stdin, given)
        os.lseek(stdin, 0, os.SEEK_SET)
        pid = _fork(cgroup, os.getpid(), path, env, stdin, stdout)
        pidfd = os.pidfd_open(pid)
        try:
            in_time = select.select([pidfd], [], [], TIMEOUT)[0]
            if not in_time:
                os.kill(pid, 9)
        finally:
            os.close(pidfd)
            code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        return (code if in_time else None), os.pread(stdout, _MAX_OUTPUT, 0).decode(errors="replace")
    finally:
        os.close(stdin)
        os.close(stdout)


def _fork(cgroup: str | None, parent: int, path: str, env: Mapping[str, str], stdin: int, stdout: int) -> int:
    import signal

    from podium.linux import cgroup as cgroups
    from podium.linux import procs, signals
    from podium.linux.files import close_all_but

    at = cgroups.tracking()
    pid = cgroups.fork(cgroup, at) if cgroup else os.fork()
    if pid:
        return pid
    try:
        procs.die_with_parent(signal.SIGKILL, parent)
        close_all_but({0, 1, 2, stdin, stdout})  # above all the pod's lock: the built-in plugin never execs
        if cgroup:
            cgroups.enter(cgroup, at=at)
        signals.reset()
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
        os.dup2(stdin, 0)
        os.dup2(stdout, 1)
        if path == BUILT_IN:
            from podium.net import bridge

            bridge.serve(env)
        os.execve(path, [path], env)
    except BaseException as e:
        os.write(2, f"{path}: {e}\n".encode())
    finally:
        os._exit(127)
