"""Real namespaces: pinned without leaving one's own, joined in the right order."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from collections.abc import Callable

import pytest

from podium.errors import InUse
from podium.linux import namespaces, procs


def _own(kind: str) -> str:
    return os.readlink(f"/proc/self/ns/{kind}")


def _in_child(action: Callable[[], object]) -> None:
    pid = os.fork()
    if pid == 0:
        try:
            action()
            os._exit(0)
        except BaseException as e:
            os.write(2, f"{type(e).__name__}: {e}\n".encode())
        finally:
            os._exit(1)
    assert os.waitpid(pid, 0)[1] == 0


def _sleeper(*flags: str) -> tuple[subprocess.Popen[bytes], procs.Process]:
    child = subprocess.Popen(["unshare", *flags, "sh", "-c", "echo; exec sleep 1000"], stdout=subprocess.PIPE)
    assert child.stdout is not None
    child.stdout.readline()
    child.stdout.close()
    process = procs.identify(child.pid)
    assert process is not None
    return child, process


def test_a_pinned_network_namespace_has_loopback_and_is_let_go(test_dir: str) -> None:
    path = os.path.join(test_dir, "a b,c")
    before = _own("net")
    inode = namespaces.pin_netns(path)
    assert _own("net") == before != f"net:[{inode}]"

    def use() -> None:
        fd = os.open(path, os.O_RDONLY)
        namespaces.join({"net": fd})
        assert _own("net") == f"net:[{inode}]"
        server = socket.create_server(("127.0.0.1", 0))
        socket.create_connection(server.getsockname()).close()
        assert [name for _, name in socket.if_nameindex() if name == "lo"] == ["lo"]

    _in_child(use)
    namespaces.unpin_netns(path, inode)
    assert not os.path.lexists(path)
    namespaces.unpin_netns(path, inode)


def test_a_pin_that_was_replaced_is_left_alone(test_dir: str) -> None:
    path = os.path.join(test_dir, "pin")
    inode = namespaces.pin_netns(path)
    with pytest.raises(InUse, match=str(inode)):
        namespaces.unpin_netns(path, inode + 1)
    assert os.stat(path).st_ino == inode
    namespaces.unpin_netns(path)


def test_the_empty_file_left_by_a_reboot_goes_and_others_stay(test_dir: str) -> None:
    path = os.path.join(test_dir, "pin")
    open(path, "x").close()
    namespaces.unpin_netns(path, 4026531840)
    assert not os.path.exists(path)
    with open(path, "w") as f:
        f.write("precious")
    with pytest.raises(InUse, match="no namespace"):
        namespaces.unpin_netns(path)
    os.unlink(path)
    os.symlink("/etc/passwd", path)
    with pytest.raises(InUse, match="no namespace"):
        namespaces.unpin_netns(path)


def test_what_exists_is_never_pinned_over(test_dir: str) -> None:
    path = os.path.join(test_dir, "pin")
    open(path, "x").close()
    with pytest.raises(FileExistsError):
        namespaces.pin_netns(path)
    assert os.path.exists(path)


def test_all_namespaces_are_joined_even_a_network_namespace_of_the_host(test_dir: str) -> None:
    """The user namespace is joined last: the first network namespace here does not belong to it."""
    pin = os.path.join(test_dir, "pin")
    inode = namespaces.pin_netns(pin)
    child, process = _sleeper("-r", "-m", "-u", "-i", "-C")
    try:

        def use() -> None:
            kinds = ("user", "mnt", "uts", "ipc", "cgroup")
            fds = namespaces.open_namespaces(process, kinds)
            fds["net"] = os.open(pin, os.O_RDONLY)
            namespaces.join(fds)
            for kind in kinds:
                assert _own(kind) == f"{kind}:[{os.fstat(fds[kind]).st_ino}]"
            assert _own("net") == f"net:[{inode}]"
            os.setgid(0)
            os.setuid(0)

        _in_child(use)
        _in_child(lambda: namespaces.join(namespaces.open_namespaces(procs.identify(os.getpid()), ["user", "mnt"])))  # type: ignore[arg-type]
    finally:
        child.kill()
        child.wait()
        namespaces.unpin_netns(pin)


def test_a_process_that_is_gone_or_another_has_no_namespaces_to_join() -> None:
    child, process = _sleeper("-u")
    with pytest.raises(ProcessLookupError):
        namespaces.open_namespaces(process._replace(start_time=1), ["uts"])
    child.send_signal(signal.SIGKILL)
    child.wait()
    before = os.listdir("/proc/self/fd")
    with pytest.raises(ProcessLookupError):
        namespaces.open_namespaces(process, ["uts"])
    assert os.listdir("/proc/self/fd") == before


def test_unshare_and_setns_back() -> None:
    def use() -> None:
        own = os.open("/proc/self/ns/uts", os.O_RDONLY)
        before = _own("uts")
        namespaces.unshare(namespaces.CLONE_NEWUTS)
        assert _own("uts") != before
        namespaces.setns(own, namespaces.CLONE_NEWUTS)
        assert _own("uts") == before

    _in_child(use)
