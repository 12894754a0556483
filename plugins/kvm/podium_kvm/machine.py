"""The command line of QEMU: a pure function of what was made for the pod. See qemu-system-x86_64(1)."""

from __future__ import annotations

from podium.types import Record

QEMU = "qemu-system-x86_64"
# A bus tells its guest of each port in three messages, and loses those that do not fit into a queue of 32: a port that
# the guest does not know to be open blocks who writes to it for ever.
PORTS_PER_BUS = 10
ENTER_BUS = "enter"
STREAMS = ("ctl", "in", "out", "err")  # the ports of a command, as `guest/init` serves them
# An emulated guest on a busy host sees its timer late and takes it for broken: a panic (no_timer_check).
APPEND = "console=ttyS0 quiet panic=-1 cryptomgr.notests no_timer_check"
_SANDBOX = "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"


class Machine(Record):
    """A virtual machine, everything made and open.

    Attributes:
        name: shown by ps(1).
        accelerator: `kvm` or `tcg`.
        memory: MiB of the guest.
        cpus: its virtual processors.
        kernel: path of an uncompressed vmlinux.
        initrd: path of the initial file system.
        images: (serial, path) of the read-only disks.
        disk: path of the writable one.
        console: descriptor of a connected socket.
        qmp: descriptor of a listening socket.
        command: descriptor of the fifo, open for both, that the guest is told commands by.
        ports: (name, descriptor of a connected socket).
        networks: (descriptor of a tap, MAC of the guest's interface).
        shared: descriptor of a socket connected to virtiofsd; None: no volumes.
    """

    name: str
    accelerator: str
    memory: int
    cpus: int
    kernel: str
    initrd: str
    images: tuple[tuple[str, str], ...]
    disk: str
    console: int
    qmp: int
    command: int
    ports: tuple[tuple[str, int], ...]
    networks: tuple[tuple[int, str], ...] = ()
    shared: int | None = None


def arguments(m: Machine) -> list[str]:
    """argv of QEMU."""
    share = ",memory-backend=mem" if m.shared is not None else ""
    argv = [QEMU, "-name", m.name, "-accel", _accel(m), "-M", f"q35{share}", "-m", str(m.memory), "-smp", str(m.cpus)]
    if m.accelerator == "kvm":
        argv += ["-cpu", "host"]
    argv += ["-nodefaults", "-no-user-config", "-no-reboot", "-display", "none", "-sandbox", _SANDBOX]
    argv += ["-kernel", m.kernel, "-initrd", m.initrd, "-append", APPEND]
    argv += ["-chardev", f"socket,id=console,fd={m.console}", "-serial", "chardev:console"]
    argv += ["-chardev", f"socket,id=qmp,fd={m.qmp},server=on,wait=off", "-mon", "chardev=qmp,mode=control"]
    argv += ["-add-fd", f"fd={m.command},set=1"]
    argv += ["-chardev", "pipe,id=p.ctl,path=/dev/fdset/1"]
    argv += [part for name, fd in m.ports for part in ("-chardev", f"socket,id=p.{name},fd={fd}")]
    names = ["ctl", *(name for name, _ in m.ports)]
    for bus in range((len(names) + PORTS_PER_BUS - 1) // PORTS_PER_BUS):
        argv += ["-device", f"virtio-serial-pci,id=bus{bus},max_ports={PORTS_PER_BUS + 1}"]
    argv += ["-device", f"virtio-serial-pci,id={ENTER_BUS},max_ports=31"]  # plugged in a few at a time
    for at, name in enumerate(names):
        bus, number = divmod(at, PORTS_PER_BUS)
        argv += ["-device", f"virtserialport,bus=bus{bus}.0,nr={number + 1},chardev=p.{name},name={name}"]
    for serial, path in m.images:
        argv += _disk(serial, path, "readonly=on")
    # Nobody waits for the host's disk: the apps' overlays do not either, and after a power failure there is no pod.
    argv += _disk("rw", m.disk, "cache=unsafe,discard=unmap")
    for number, (fd, mac) in enumerate(m.networks):
        argv += ["-netdev", f"tap,id=net{number},fd={fd},vhost=off"]
        argv += ["-device", f"virtio-net-pci,netdev=net{number},mac={mac},romfile="]
    if m.shared is not None:
        argv += ["-object", f"memory-backend-memfd,id=mem,size={m.memory}M,share=on"]
        argv += ["-chardev", f"socket,id=shared,fd={m.shared}"]
        argv += ["-device", "vhost-user-fs-pci,chardev=shared,tag=shared"]
    return argv


def _accel(m: Machine) -> str:
    return "tcg,tb-size=32" if m.accelerator == "tcg" else m.accelerator


def _disk(serial: str, path: str, options: str) -> list[str]:
    escaped = path.replace(",", ",,")
    drive = f"if=none,id=d.{serial},format=raw,file={escaped},{options}"
    return ["-drive", drive, "-device", f"virtio-blk-pci,drive=d.{serial},serial={serial}"]
