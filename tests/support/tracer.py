"""Runs a command and lists its system calls, or stops it at one of them, or lets one fail: ptrace(2) with seccomp(2).

strace counts the calls of each process apart: to fail the Nth of a pod's supervisor it fails the Nth of the client
too, which ends before there is a supervisor. Here a call is told by what it is about and in which step it is made,
whichever process makes it; and only the calls that are looked at cost a stop.
"""

from __future__ import annotations

import ctypes
import errno
import gc
import os
import re
import shutil
import signal
import struct
import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import prctl

SUPPORTED = os.uname().machine == "x86_64"  # whose registers are known here
# System call → its number, and which arguments tell what it is about: a descriptor (f), a path (p), both as *at (a).
CALLS = {
    "rename": (82, "pp"),
    "renameat": (264, "aa"),
    "renameat2": (316, "aa"),
    "mkdir": (83, "p"),
    "mkdirat": (258, "a"),
    "open": (2, "p"),
    "openat": (257, "a"),
    "openat2": (437, "a"),
    "write": (1, "f"),
    "pwrite64": (18, "f"),
    "fsync": (74, "f"),
    "fdatasync": (75, "f"),
    "syncfs": (306, "f"),
    "mount": (165, "pp"),
    "move_mount": (429, "aa"),
    "fsmount": (432, ""),
    "open_tree": (428, "a"),
    "mount_setattr": (442, "a"),
    "umount2": (166, "p"),
    "unlink": (87, "p"),
    "unlinkat": (263, "a"),
    "rmdir": (84, "p"),
}
MOUNTS = {"mount", "move_mount", "fsmount", "open_tree", "mount_setattr", "umount2"}
OPENS = {"open", "openat", "openat2", "fsmount", "open_tree"}  # make a descriptor
_BY_NUMBER = {number: (name, what) for name, (number, what) in CALLS.items()}
_WIDTH = {"f": 1, "p": 1, "a": 2}
_NUMBERS = re.compile(r"[0-9a-f]{8}-[0-9a-f-]{27}|(?<=-)[0-9a-f]+(?![0-9a-z])|[0-9a-f]{8,}|\d+")
_MANY = re.compile(r"(/lib|/rootfs|/root|/upper|/cgroup)/.*")
PATIENCE = 20.0
_AT_FDCWD = -100
_WALL = 0x40000000
_CONT, _POKEUSER, _GETEVENTMSG, _SEIZE, _LISTEN, _GET_SYSCALL_INFO = 7, 6, 0x4201, 0x4206, 0x4208, 0x420E
_FORK, _VFORK, _CLONE, _EXEC, _SECCOMP, _STOP = 1, 2, 3, 4, 7, 128
_OPTIONS = 1 << _FORK | 1 << _VFORK | 1 << _CLONE | 1 << _EXEC | 1 << _SECCOMP | 1 << 20  # EXITKILL
_ORIG_RAX, _RAX = 15 * 8, 10 * 8
_LIBC = ctypes.CDLL(None, use_errno=True)
_LIBC.ptrace.argtypes = (ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p)
_LIBC.ptrace.restype = ctypes.c_long


class Call(NamedTuple):
    """A system call: `shape` is the step, its name and what it is about; it is the `number`th of these."""

    shape: str
    number: int

    @property
    def name(self) -> str:
        """Of the system call."""
        return self.shape.split(" ")[1]


class Fault(NamedTuple):
    """What happens to a call: `error` (an errno), or 0: SIGKILL instead of it."""

    call: Call
    error: int


class Traced:
    """A command that is run under the tracer.

    Args:
        argv: the command.
        env: its environment.
        folder: calls about files below it are listed, and those about control groups, and all of mounts.
        fault: what happens to one of these calls.

    Attributes:
        code: as subprocess has it; the command has ended.
        err: what it said on standard error.
    """

    def __init__(self, argv: Sequence[str], env: Mapping[str, str], folder: str, fault: Fault | None = None) -> None:
        # Named, and closed here: the guard counts our descriptors.
        self._work = tempfile.mkdtemp(prefix="tracer-", dir=os.path.dirname(folder))
        self._text: str | None = None
        ended, says = os.pipe()
        self._pid = os.fork()
        if self._pid == 0:
            try:
                prctl.set_pdeathsig(signal.SIGKILL)
                gc.freeze()
                out, err, log = (os.open(self._file(name), os.O_RDWR | os.O_CREAT) for name in ("out", "err", "log"))
                command = _start(argv, {**env, "PODIUM_TRACE_LOG": self._file("points")}, (out, err))
                _Tracer(command, folder, self._file("points"), fault, log, says).work()
            except BaseException as e:
                os.write(log, f"TRACER {e!r}\n".encode())
            finally:
                os._exit(0)
        os.close(says)
        answer = os.read(ended, 16)  # the others may live on: a supervisor, apps
        os.close(ended)
        self.err = self._read("err")
        assert answer, f"the tracer failed: {self._read('log')}"
        self.code = int(answer)

    def __enter__(self) -> Traced:
        return self

    def __exit__(self, *_: object) -> None:
        """Wait for whatever the command has started; what does not end is killed."""
        deadline = time.monotonic() + PATIENCE
        while not os.waitpid(self._pid, os.WNOHANG)[0]:
            if time.monotonic() > deadline:
                os.kill(self._pid, signal.SIGKILL)
                os.waitpid(self._pid, 0)
                break
            time.sleep(0.002)
        self._text = self._read("log")
        shutil.rmtree(self._work)

    def calls(self) -> list[str]:
        """The shapes of the calls so far, in order."""
        return [line[1:] for line in self._lines() if line[0] == " "]

    def hit(self) -> str | None:
        """The call that was hit, if there was one by now."""
        return next((line[4:] for line in self._lines() if line.startswith("HIT ")), None)

    def _lines(self) -> list[str]:
        return (self._read("log") if self._text is None else self._text).splitlines()

    def _file(self, name: str) -> str:
        return os.path.join(self._work, name)

    def _read(self, name: str) -> str:
        with open(self._file(name), encoding="utf-8", errors="replace") as f:
            return f.read()


def shape(step: str, name: str, paths: Sequence[str]) -> str:
    """What a call is, without numbers and what tells one of many alike from another."""
    return " ".join([step, name, *(_MANY.sub(r"\1/*", _NUMBERS.sub("N", path)).replace(" ", "_") for path in paths)])


def _ptrace(request: int, pid: int, at: int = 0, data: object = 0) -> int:
    """ptrace(2); what was killed meanwhile is none of our business."""
    result: int = _LIBC.ptrace(request, pid, at, data)
    if result < 0 and ctypes.get_errno() != errno.ESRCH:
        raise OSError(ctypes.get_errno(), f"ptrace {request:#x}")
    return result


def _filter() -> ctypes.Array[ctypes.c_char]:
    """A BPF program (struct sock_filter): a stop at these calls, and nothing else changes."""
    numbers = sorted(_BY_NUMBER)
    code = [(0x20, 0, 0, 0)]  # load the number
    code += [(0x15, len(numbers) - at, 0, number) for at, number in enumerate(numbers)]
    code += [(0x06, 0, 0, 0x7FFF0000), (0x06, 0, 0, 0x7FF00000)]  # SECCOMP_RET_ALLOW, SECCOMP_RET_TRACE
    return ctypes.create_string_buffer(b"".join(struct.pack("<HBBI", *line) for line in code))


def _start(argv: Sequence[str], env: Mapping[str, str], streams: tuple[int, int]) -> int:
    """Start the command, traced from its first call on; returns its pid."""
    ready, go = os.pipe()
    pid = os.fork()
    if pid:
        os.close(ready)
        _ptrace(_SEIZE, pid, 0, _OPTIONS)
        os.write(go, b"x")
        os.close(go)
        return pid
    try:
        os.close(go)
        os.read(ready, 1)
        null = os.open(os.devnull, os.O_RDONLY)
        for fd, to in zip((null, *streams), range(3), strict=True):
            os.dup2(fd, to)
        os.closerange(3, 256)
        program = _filter()
        head = struct.pack("<HxxxxxxQ", (len(program) - 1) // 8, ctypes.addressof(program))
        if _LIBC.prctl(22, 2, ctypes.create_string_buffer(head), 0, 0):  # PR_SET_SECCOMP, SECCOMP_MODE_FILTER
            raise OSError(ctypes.get_errno(), "prctl")
        os.execve(argv[0], [*argv], dict(env))
    finally:
        os._exit(70)


class _Tracer:
    """The process that the command and all that it starts are traced by."""

    def __init__(self, command: int, folder: str, points: str, fault: Fault | None, log: int, says: int) -> None:
        self.command = command
        self.folder = folder
        self.points = points
        self.fault = fault
        self.log = log
        self.says = says
        self._seen: Counter[str] = Counter()
        self._steps: dict[int, str] = {command: "start"}  # of each process, the trace point that it passed last
        self._info = ctypes.create_string_buffer(96)

    def work(self) -> None:
        """Until all have ended."""
        while True:
            try:
                pid, status = os.waitpid(-1, _WALL)
            except ChildProcessError:
                return
            if os.WIFSTOPPED(status):
                self._stopped(pid, os.WSTOPSIG(status), status >> 16)
            elif pid == self.command:
                os.write(self.says, str(os.waitstatus_to_exitcode(status)).encode())

    def _stopped(self, pid: int, number: int, event: int) -> None:
        if event == _SECCOMP:
            self._called(pid)
        elif event in (_FORK, _VFORK, _CLONE):
            child = ctypes.c_ulong()
            if _ptrace(_GETEVENTMSG, pid, 0, ctypes.addressof(child)) >= 0:
                self._steps.setdefault(child.value, self._step(pid))
        elif event == _STOP and number in (signal.SIGSTOP, signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU):
            _ptrace(_LISTEN, pid)
            return
        _ptrace(_CONT, pid, 0, 0 if event else number)

    def _step(self, pid: int) -> str:
        return self._steps.get(pid, "start")

    def _called(self, pid: int) -> None:
        """A process is about to do one of the calls."""
        if _ptrace(_GET_SYSCALL_INFO, pid, len(self._info), ctypes.addressof(self._info)) < 0:
            return
        number, *args = struct.unpack_from("<7Q", self._info, 24)
        name, kinds = _BY_NUMBER[number]
        paths, at = [], 0
        for kind in kinds:
            paths.append(self._path(pid, kind, args[at : at + 2]))
            at += _WIDTH[kind]
        if self.points in paths:
            if name == "write":
                self._steps[pid] = _NUMBERS.sub("N", _text(pid, args[1], args[2]).split()[2])
            return
        if name not in MOUNTS and not any(p.startswith(self.folder) or "/cgroup/" in p for p in paths):
            return
        what = shape(self._step(pid), name, [path.removeprefix(self.folder) for path in paths])
        self._seen[what] += 1
        os.write(self.log, f" {what}\n".encode(errors="replace"))
        if self.fault is not None and self.fault.call == (what, self._seen[what]):
            os.write(self.log, f"HIT {name} {' '.join(paths)}\n".encode(errors="replace"))
            if not self.fault.error:
                os.kill(pid, signal.SIGKILL)
                return
            _ptrace(_POKEUSER, pid, _ORIG_RAX, ctypes.c_void_p(-1))
            _ptrace(_POKEUSER, pid, _RAX, ctypes.c_void_p(-self.fault.error))

    def _path(self, pid: int, kind: str, args: Sequence[int]) -> str:
        fd = ctypes.c_int(args[0]).value
        if kind == "f":
            return _link(f"/proc/{pid}/fd/{fd}")
        path = _text(pid, args[kind == "a"])
        if path.startswith("/"):
            return path
        above = _link(f"/proc/{pid}/cwd" if kind == "p" or fd == _AT_FDCWD else f"/proc/{pid}/fd/{fd}")
        return f"{above}/{path}" if path else above


def _link(path: str) -> str:
    try:
        return os.readlink(path)
    except OSError:
        return ""


def _text(pid: int, address: int, length: int | None = None) -> str:
    """A string of a process's memory; with `length` that much of it."""
    if not address:
        return ""
    try:
        fd = os.open(f"/proc/{pid}/mem", os.O_RDONLY)
    except OSError:
        return ""
    try:
        data = b""
        while length is None or len(data) < length:
            more = os.pread(fd, 256 if length is None else length - len(data), address + len(data))
            data += more
            if not more or (length is None and b"\0" in more):
                break
        return (data if length is not None else data.split(b"\0")[0]).decode(errors="replace")
    except OSError:
        return ""
    finally:
        os.close(fd)
