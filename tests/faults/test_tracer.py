"""What the sweeps inject with does hit the call that it is told to, in whichever process that is."""

from __future__ import annotations

import errno
import os
import sys

import pytest

from support import tracer
from support.tracer import Call, Fault, Traced

pytestmark = pytest.mark.skipif(not tracer.SUPPORTED, reason="the tracer knows the registers of x86_64 alone")
# The parent makes a1 and a2, its child b1, b2 and b3; each says which of its calls failed, and how.
SCRIPT = """
import os, sys
def make(name):
    try:
        os.mkdir(os.path.join(sys.argv[1], name))
    except OSError as e:
        print(name, e.errno, file=sys.stderr)
make("a1")
child = os.fork()
for name in ("a2",) if child else ("b1", "b2", "b3"):
    make(name)
if child:
    print("child", os.waitpid(child, 0)[1], file=sys.stderr)
"""


@pytest.mark.parametrize(
    ("error", "said", "made"),
    [
        (errno.ENOSPC, f"b2 {errno.ENOSPC}\nchild 0\n", {"a1", "a2", "b1", "b3"}),
        (0, "child 9\n", {"a1", "a2", "b1"}),
    ],
    ids=["fails", "killed"],
)
def test_one_call_of_one_process_is_hit(test_dir: str, error: int, said: str, made: set[str]) -> None:
    folder = os.path.join(test_dir, "folder")
    os.mkdir(folder)
    argv = [sys.executable, "-c", SCRIPT, folder]
    with Traced(argv, os.environ, folder, Fault(Call("start mkdir /bN", 2), error)) as done:
        pass
    assert (done.code, done.err) == (0, said)
    assert set(os.listdir(folder)) == made
    assert done.hit() == f"mkdir {folder}/b2"
    assert sorted(done.calls())[:2] == ["start mkdir /aN"] * 2


def test_what_is_alike_has_one_shape() -> None:
    one = tracer.shape("gc:mark", "openat", ["/pods/run/0d2b9bd6-4e47-4c5a-9d0f-0c7c7e8a1a11/.tmp-17-ab12cd34ef"])
    other = tracer.shape("gc:mark", "openat", ["/pods/run/5f0e7a38-11d2-4a3c-8a1f-b0f5d9c6e222/.tmp-9-0000000000"])
    assert one == other == "gc:mark openat /pods/run/N/.tmp-N-N"
    assert tracer.shape("a", "mkdir", ["/sys/fs/cgroup/pids/x"]) == tracer.shape("a", "mkdir", ["/sys/fs/cgroup/cpu/y"])
    assert tracer.shape("a", "mkdir", ["/pods"]) != tracer.shape("b", "mkdir", ["/pods"])
