"""What a guest does before its script, and in place of what would be a process of busybox for each step.

Under emulation such a process takes some milliseconds, a system call some microseconds.
"""

from __future__ import annotations

import stat
import struct

from podium.types import Record
from podium_kvm.assembler import EXIT
from podium_kvm.steps import Steps

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

CGROUPS = "/sys/fs/cgroup"
PODS_CGROUP = f"{CGROUPS}/pod"
_CONTROLLERS = b"+memory +cpu +pids"

# asm/unistd_64.h
_READ, _OPEN, _CLOSE, _IOCTL, _SOCKET, _FORK, _EXECVE, _WAIT4 = 0, 2, 3, 16, 41, 57, 59, 61
_MKDIR, _UNLINK, _SYMLINK, _READLINK, _CHMOD, _CHOWN, _UMASK = 83, 87, 88, 89, 90, 92, 95
_MKNOD, _MOUNT, _REBOOT, _FINIT_MODULE = 133, 165, 169, 313
_READ_ONLY, _NO_SUID, _NO_DEV, _NO_EXEC, _REMOUNT, _BIND = 1, 2, 4, 8, 32, 4096  # mount(2)
_NO_ATIME, _NO_DIRATIME = 1024, 2048
_AF_INET, _SOCK_DGRAM, _SIOCSIFFLAGS, _IFF_UP = 2, 2, 0x8914, 1  # netdevice(7)
_POWER_OFF = (0xFEE1DEAD, 672274793, 0x4321FEDC)  # reboot(2)
_DEVICES = {"null": (1, 3), "zero": (1, 5), "full": (1, 7), "random": (1, 8), "urandom": (1, 9), "tty": (5, 0)}
_LINKS = {
    "ptmx": "pts/ptmx",
    "fd": "/proc/self/fd",
    "stdin": "/proc/self/fd/0",
    "stdout": "/proc/self/fd/1",
    "stderr": "/proc/self/fd/2",
}


class Root(Record):
    """An app's writable root.

    Attributes:
        app: its name.
        image: serial of the disk that carries its image.
        mode: of its top.
        uid: of its top.
        gid: of its top.
    """

    app: str
    image: str
    mode: int
    uid: int
    gid: int


def first(modules: Iterable[str], images: Iterable[str], roots: Iterable[Root], script: tuple[str, ...]) -> bytes:
    """The first process: it makes all that the script finds, starts that, and ends as it does.

    Meanwhile it waits for whatever has lost its parent. An app's root is at /apps/APP with the kernel's folders in it,
    its image at /images/SERIAL; the writable disk is at /rw.

    Args:
        modules: paths, dependencies first.
        images: serials of the disks that carry images, in their order; that of the writable one follows.
        roots: the apps'.
        script: the command that is the script.
    """
    made = _Boot()
    made.rescue = "off"
    made.make_file_systems()
    made.bring_up_loopback()
    for path in modules:
        made.load_module(path)
    for number, serial in enumerate([*images, "rw"]):
        made.mount_disk(f"vd{chr(ord('a') + number)}", serial)
    made.syscall(_UMASK, 0)
    for root in roots:
        made.make_root(root)
    made.syscall(_UMASK, 0o022)
    made.serve(script)
    made.label("off")
    made.syscall(_REBOOT, *_POWER_OFF)
    return made.elf()


class _Boot(Steps):
    """The program."""

    def make_file_systems(self) -> None:
        """The kernel's own, and the cgroup that has the apps'."""
        for kind, at in (("proc", "/proc"), ("sysfs", "/sys"), ("devtmpfs", "/dev"), ("cgroup2", CGROUPS)):
            self._mount(f"{kind} can't be mounted", kind, at, kind)
        # Who serves the apps is not killed for what they use.
        self.write_file("oom_score_adj can't be set", "/proc/self/oom_score_adj", b"-1000")
        for folder in (CGROUPS, PODS_CGROUP):
            self.syscall(_MKDIR, self.text(folder), 0o755)
            self.write_file("the guest has not all controllers", f"{folder}/cgroup.subtree_control", _CONTROLLERS)

    def bring_up_loopback(self) -> None:
        """As `ip link set lo up`."""
        request = self.data(struct.pack("16sh14x8x", b"lo", _IFF_UP))
        why = "the loopback interface can't be brought up"
        self.must(why, _SOCKET, _AF_INET, _SOCK_DGRAM, 0)
        self.move("rbx", "rax")
        self.must(why, _IOCTL, "rbx", _SIOCSIFFLAGS, request)
        self.syscall(_CLOSE, "rbx")

    def load_module(self, path: str) -> None:
        """Load it; where that can't be, insmod(8) says why."""
        done = self.fresh("loaded")
        place, name = self.text(path), path.rpartition("/")[2]
        self.syscall(_OPEN, place, 0)
        self.move("rbx", "rax")
        self.syscall(_FINIT_MODULE, "rbx", self.text(""), 0)
        self.compare("rax", 0)
        self.jump(done, "equal")
        self._run(("/bin/insmod", path))
        self.fail(f"kernel module {name} can't be loaded", 1)
        self.label(done)
        self.syscall(_CLOSE, "rbx")

    def mount_disk(self, device: str, serial: str) -> None:
        """The kernel names them in the order in which they were made; that it is the right one its serial tells."""
        right = self.fresh("right")
        expected = (serial.encode() + bytes(8))[:8]
        found = self.data(bytes(24))
        self.syscall(_OPEN, self.text(f"/sys/block/{device}/serial"), 0)
        self.move("rbx", "rax")
        self.syscall(_READ, "rbx", found, 20)
        self.syscall(_CLOSE, "rbx")
        self.load("rax", found)
        self.move("rcx", int.from_bytes(expected, "little"))
        self.compare("rax", "rcx")
        self.jump(right, "equal")
        self.fail(f"disk {serial} is not there", 1)
        self.label(right)
        if serial == "rw":
            flags = _NO_ATIME | _NO_DIRATIME
            # Its 128 MiB of empty inode tables need not be written: it takes the guest's time and the host's disk.
            options = "noinit_itable"
            self._mount("the pod's disk can't be mounted", f"/dev/{device}", "/rw", "ext4", flags, options)
        else:
            why, at = f"image {serial} can't be mounted", f"/images/{serial}"
            self._mount(why, f"/dev/{device}", at, "erofs", _READ_ONLY)

    def _run(self, argv: tuple[str, ...]) -> None:
        """Run a program to its end."""
        parent = self.fresh("parent")
        self.syscall(_FORK)
        self.compare("rax", 0)
        self.jump(parent, "different")
        self.syscall(_EXECVE, self.text(argv[0]), self.strings(argv), 0)
        self.syscall(EXIT, 1)
        self.label(parent)
        self.syscall(_WAIT4, "rax", 0, 0, 0)

    def serve(self, script: tuple[str, ...]) -> None:
        """Run the script, and reap."""
        status = self.data(bytes(8))
        self.must("the guest can't start a process", _FORK)
        self.compare("rax", 0)
        self.jump("parent", "different")
        self.must(f"the guest has no {script[0]}", _EXECVE, self.text(script[0]), self.strings(script), 0)
        self.label("parent")
        self.move("rbx", "rax")
        self.label("wait")
        self.syscall(_WAIT4, -1, status, 0, 0)
        self.compare("rax", "rbx")
        self.jump("wait", "different")
        self.load("rdi", status, 4)
        self.shift("rdi", 8)
        self.syscall(EXIT, "rdi")

    def make_root(self, root: Root) -> None:
        """One app's."""
        at, own, why = f"/apps/{root.app}", f"/rw/{root.app}", f"the root of {root.app} can't be mounted"
        for folder in (at, own, f"{own}/upper", f"{own}/work"):
            self.syscall(_MKDIR, self.text(folder), 0o755)
        self.must(why, _CHOWN, self.text(f"{own}/upper"), root.uid, root.gid)
        self.must(why, _CHMOD, self.text(f"{own}/upper"), root.mode)
        layers = f"lowerdir=/images/{root.image},upperdir={own}/upper,workdir={own}/work,volatile"
        self._mount(why, "overlay", at, "overlay", options=layers)
        for folder in ("proc", "sys", "dev"):
            self._folder(f"{at}/{folder}")
        self._mount(why, "proc", f"{at}/proc", "proc", _NO_SUID | _NO_DEV | _NO_EXEC)
        self._mount(why, "sysfs", f"{at}/sys", "sysfs", _READ_ONLY | _NO_SUID | _NO_DEV | _NO_EXEC)
        self._mount(why, "dev", f"{at}/dev", "tmpfs", _NO_SUID, "mode=755,size=64k")
        self._fill_dev(f"{at}/dev", why)
        self.must(f"the cgroup of {root.app} can't be made", _MKDIR, self.text(f"{PODS_CGROUP}/{root.app}"), 0o755)
        self._mount(why, f"{PODS_CGROUP}/{root.app}", f"{at}{CGROUPS}", "", _BIND)
        self._mount(why, "", f"{at}{CGROUPS}", "", _REMOUNT | _BIND | _READ_ONLY)
        for place in (f"{at}/proc/sys", f"{at}/proc/sysrq-trigger"):  # the guest is all apps'
            self._mount(why, place, place, "", _BIND)
            self._mount(why, "", place, "", _REMOUNT | _BIND | _READ_ONLY)

    def _folder(self, path: str) -> None:
        """Make it a folder, if it is a link or nothing."""
        none, place = self.fresh("none"), self.text(path)
        self.syscall(_READLINK, place, self.data(bytes(8)), 1)
        self.compare("rax", 0)
        self.jump(none, "negative")
        self.syscall(_UNLINK, place)
        self.label(none)
        self.syscall(_MKDIR, place, 0o755)

    def _fill_dev(self, at: str, why: str) -> None:
        for folder in ("pts", "shm"):
            self.must(why, _MKDIR, self.text(f"{at}/{folder}"), 0o755)
        options = "newinstance,ptmxmode=666,mode=620,gid=5"
        self._mount(why, "devpts", f"{at}/pts", "devpts", _NO_SUID | _NO_EXEC, options)
        self._mount(why, "shm", f"{at}/shm", "tmpfs", _NO_SUID | _NO_DEV, "mode=1777")
        for name, (major, minor) in _DEVICES.items():
            self.must(why, _MKNOD, self.text(f"{at}/{name}"), stat.S_IFCHR | 0o666, major << 8 | minor)
        for name, target in _LINKS.items():
            self.must(why, _SYMLINK, self.text(target), self.text(f"{at}/{name}"))

    def _mount(self, why: str, source: str, at: str, kind: str, flags: int = 0, options: str = "") -> None:
        given = self.text(options) if options else 0
        self.must(why, _MOUNT, self.text(source), self.text(at), self.text(kind), flags, given)
