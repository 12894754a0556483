"""fork(2) into a v2 cgroup: clone3(2) with CLONE_INTO_CGROUP, done as os.fork() does it.

The interpreter is told before and after (PyOS_BeforeFork and so on), and the call is made with the interpreter's lock
held, so the child has the lock too. The C library is not told: its record of the thread's id is the parent's, which
matters to raise(3) alone (os.kill works), and its locks are as they are, which is right in a process of one thread.
"""

from __future__ import annotations

import ctypes
import errno
import os

from podium.linux.signals import signal
from podium.linux.syscalls import number

_CLONE_INTO_CGROUP = 0x200000000


class _CloneArgs(ctypes.Structure):
    _fields_ = [
        (name, ctypes.c_uint64)
        for name in (
            *("flags", "pidfd", "child_tid", "parent_tid", "exit_signal", "stack", "stack_size", "tls"),
            *("set_tid", "set_tid_size", "cgroup"),
        )
    ]


def fork_into(cgroup_fd: int) -> int:
    """Fork; the child is in the v2 cgroup whose folder `cgroup_fd` is.

    Returns:
        The child's pid, and 0 in the child.

    Raises:
        OSError: ENOSYS, E2BIG or EINVAL: the kernel is older than 5.7; EPERM: a filter forbids it; EBUSY: the cgroup
            has controllers for children of its own.
    """
    if os.stat("/proc/self/task").st_nlink > 3:  # ".", ".." and one thread
        raise OSError(errno.EINVAL, "this process has several threads (clone3)")
    syscall = ctypes.PyDLL(None, use_errno=True).syscall
    syscall.restype = ctypes.c_long
    args = _CloneArgs(flags=_CLONE_INTO_CGROUP, exit_signal=signal.SIGCHLD, cgroup=cgroup_fd)
    ctypes.pythonapi.PyOS_BeforeFork.restype = None
    ctypes.pythonapi.PyOS_AfterFork_Child.restype = None
    ctypes.pythonapi.PyOS_AfterFork_Parent.restype = None
    call, size = ctypes.c_long(number("clone3")), ctypes.c_size_t(ctypes.sizeof(args))
    reference = ctypes.byref(args)
    ctypes.pythonapi.PyOS_BeforeFork()
    pid = int(syscall(call, reference, size))
    code = ctypes.get_errno()
    if pid == 0:
        ctypes.pythonapi.PyOS_AfterFork_Child()
        return 0
    ctypes.pythonapi.PyOS_AfterFork_Parent()
    if pid < 0:
        raise OSError(code, f"{os.strerror(code)} (clone3)")
    return pid
