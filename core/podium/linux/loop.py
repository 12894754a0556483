"""Loop devices. See loop(4)."""

from __future__ import annotations

import errno
import os

from podium.named import NamedTuple

_LOOP_CLR_FD, _LOOP_GET_STATUS64, _LOOP_CONFIGURE, _LOOP_CTL_GET_FREE = 0x4C01, 0x4C05, 0x4C0A, 0x4C82
_READ_ONLY, _AUTOCLEAR = 1, 4
_INFO_SIZE = 232  # of struct loop_info64: device and inode of the backing file first, flags at 52
_FLAGS_AT = 52
_ATTEMPTS = 100


class LoopDevice(NamedTuple):
    """A loop device in use.

    Attributes:
        device: path, `/dev/loop3`.
        backing: path of the backing file, as the kernel tells it.
    """

    device: str
    backing: str


def attached(backing_prefix: str = "/") -> list[LoopDevice]:
    """The loop devices whose backing file's path starts with this; one that can't be read is left out."""
    found = []
    for name in sorted(os.listdir("/sys/block")):
        if name.startswith("loop"):
            try:
                with open(f"/sys/block/{name}/loop/backing_file", encoding="utf-8", errors="surrogateescape") as f:
                    backing = f.read().removesuffix("\n")
            except OSError:
                continue
            if backing.startswith(backing_prefix):
                found.append(LoopDevice(f"/dev/{name}", backing))
    return found


def attach(path: str, read_only: bool, autoclear: bool = True) -> tuple[str, int]:
    """Attach a file to a free loop device (LOOP_CONFIGURE, Linux 5.8).

    Args:
        path: of the backing file.
        read_only: no writes through the device.
        autoclear: detach when nobody has the device open or mounted any more.

    Returns:
        Path of the device, and a descriptor of it: with `autoclear`, keep it open until the device is mounted.

    Raises:
        OSError: EBUSY: others took every device that was offered.
    """
    import fcntl
    from struct import pack, pack_into

    config = bytearray(pack("II", 0, 0).ljust(304, b"\0"))  # struct loop_config: fd, block size, loop_info64, reserved
    mode = os.O_RDONLY if read_only else os.O_RDWR
    flags = (_READ_ONLY if read_only else 0) | (_AUTOCLEAR if autoclear else 0)
    backing = os.open(path, mode | os.O_CLOEXEC)
    control = -1
    try:
        control = os.open("/dev/loop-control", os.O_RDWR | os.O_CLOEXEC)
        pack_into("I", config, 0, backing)
        pack_into("I", config, 8 + _FLAGS_AT, flags)
        for _ in range(_ATTEMPTS):
            device = f"/dev/loop{fcntl.ioctl(control, _LOOP_CTL_GET_FREE)}"
            try:
                fd = os.open(device, mode | os.O_CLOEXEC)
            except OSError as e:
                if e.errno in (errno.ENXIO, errno.EBUSY):
                    continue
                raise
            try:
                fcntl.ioctl(fd, _LOOP_CONFIGURE, bytes(config))
            except OSError as e:
                os.close(fd)
                if e.errno == errno.EBUSY:  # another was quicker
                    continue
                raise OSError(e.errno, f"{e.strerror} (LOOP_CONFIGURE of {device})", path) from None
            return device, fd
        raise OSError(errno.EBUSY, "no loop device stayed free (LOOP_CONFIGURE)", path)
    finally:
        os.close(backing)
        if control >= 0:
            os.close(control)


def detach(device: str, backing: tuple[int, int]) -> bool:
    """Detach a loop device, if it is that of exactly this backing file.

    Args:
        device: path of the device.
        backing: st_dev and st_ino of the backing file.

    Returns:
        Whether it was attached.

    Raises:
        InUse: it is attached to another file; it was left alone.
    """
    import fcntl
    from struct import unpack_from

    try:
        fd = os.open(device, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as e:
        if e.errno in (errno.ENOENT, errno.ENXIO):
            return False
        raise
    try:
        status = fcntl.ioctl(fd, _LOOP_GET_STATUS64, bytes(_INFO_SIZE))
        if _file_of(status) != backing:
            from podium.errors import InUse

            number, inode = unpack_from("QQ", status)
            raise InUse(
                f"{device} is attached to another file (device {number}, inode {inode})",
                hint="it was left alone",
                subject=device,
            )
        fcntl.ioctl(fd, _LOOP_CLR_FD)  # done at once, or when the last user closes it
    except OSError as e:
        if e.errno == errno.ENXIO:
            return False
        raise
    finally:
        os.close(fd)
    return True


def _file_of(status: bytes) -> tuple[int, int]:
    """st_dev and st_ino of the backing file in a struct loop_info64, whose device number is in the kernel's coding."""
    from struct import unpack_from

    device, inode = unpack_from("QQ", status)
    major, minor = (device >> 8) & 0xFFF, (device & 0xFF) | ((device >> 12) & 0xFFF00)
    return os.makedev(major, minor), inode
